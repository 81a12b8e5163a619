//! Instances that are virtual machines. The guest is a boot sector: the smallest thing that a machine
//! can start from, so that no image of an operating system is needed.

use crate::site::{Site, host_id, skipped, until};
use eventplane_agent::Method;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Writes the text behind it to the first serial port, and halts: 16-bit code for the 8086, as a BIOS
/// starts it at 0x7c00.
const CODE: [u8; 22] = [
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0xbe, 0x16, 0x7c, // mov si, the text
    0xfc, // cld
    0xac, // lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x06, // jz to hlt
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xee, // out dx, al
    0xeb, 0xf5, // jmp to lodsb
    0xf4, // hlt
    0xeb, 0xfd, // jmp to hlt
];

/// A disk of 64 KiB whose first sector is the guest.
fn disk(text: &str) -> Vec<u8> {
    let mut disk = CODE.to_vec();
    disk.extend_from_slice(text.as_bytes());
    disk.resize(510, 0);
    disk.extend_from_slice(&[0x55, 0xaa]);
    disk.resize(64 * 1024, 0);
    disk
}

/// What is missing for this test, if anything is.
fn missing() -> Option<&'static str> {
    ["qemu-system-x86_64", "qemu-img"]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_machine_boots_from_its_image_and_is_switched_off() {
    if let Some(program) = missing() {
        skipped(&format!("{program} is not installed (packages qemu-system-x86, qemu-utils)"));
        return;
    }
    let mut site = Site::new(0, "127.49.0").await;
    fs::write(site.path("guest.img"), disk("a guest of eventplane\n")).expect("written");
    let more =
        "driver = \"qemu\"\n[restart]\nstop_grace_ms = 300\n[images.default]\ndisk = \"guest.img\"";
    site.describe_host(&host_id(0), more);
    let agent = site.start_agent(&host_id(0)).await;
    site.agents.push(agent);
    let ids = site.launch(1, "#cloud-config\n", json!({})).await;
    site.state(&ids[0], "running").await;
    let path = format!("/v1/instances/{}/console?latest=true&wait=5", ids[0]);
    until("what the guest says", async || {
        let console = site.send(Method::GET, &path, None).await;
        let said = console.json::<Value>().unwrap_or_default();
        said["output"].as_str().is_some_and(|output| output.contains("a guest of eventplane"))
    })
    .await;
    // Its agent dies; the machine does not notice.
    let run = site.run_dir(&host_id(0), &ids[0]).join("run.json");
    let before = fs::read(&run).expect("there");
    site.agents[0].kill();
    site.agents[0] = site.start_agent(&host_id(0)).await;
    assert_eq!(fs::read(&run).expect("there"), before);
    let volumes = site.path("volumes/default");
    let disks = || fs::read_dir(volumes.join(&ids[0])).map_or(0, Iterator::count);
    assert_eq!(disks(), 1);
    // Its volume stays while it is stopped, and goes with it.
    site.post(&format!("/v1/instances/{}/stop", ids[0]), json!({})).await;
    site.state(&ids[0], "stopped").await;
    assert_eq!(disks(), 1);
    site.send(Method::DELETE, &format!("/v1/instances/{}", ids[0]), None).await;
    site.state(&ids[0], "terminated").await;
    // Whoever is not here any more is asked about when the agent starts.
    site.agents[0].kill();
    site.agents[0] = site.start_agent(&host_id(0)).await;
    until("the end of its disk", async || disks() == 0).await;
}
