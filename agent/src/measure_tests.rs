//! Hosts made of files.

use super::*;
use std::fs;
use tempfile::TempDir;

const CONFIG: &str = "host_id = \"host-a\"\nzone = \"zone-a\"\nrack = \"rack-7\"\n\
                      [images.default]\nprogram = [\"server\"]\n";
const ROUTES_OF_TWO: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000080\t0\t0\t0
eth1\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
";

/// A host with these files.
fn host(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    root
}

/// Four processors, 15.4 GiB and 10 Gbps.
fn usual() -> Vec<(&'static str, &'static str)> {
    vec![
        ("sys/devices/system/cpu/online", "0-2,5\n"),
        ("proc/meminfo", "MemTotal:       16123456 kB\nMemFree:        1 kB\n"),
        ("proc/net/route", ROUTES_OF_TWO),
        ("sys/class/net/eth0/speed", "10000\n"),
        ("sys/class/net/wlan0/speed", "54\n"),
    ]
}

fn config(more: &str) -> HostConfig {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("host.toml");
    fs::write(&path, format!("{CONFIG}{more}")).expect("written");
    HostConfig::open(&path).expect("right")
}

/// What the driver says of a GPU, as it says it.
fn information(model: &str, excluded: &str) -> String {
    format!(
        "Model: \t\t {model}\nIRQ:   \t\t 10\nGPU UUID: \t GPU-9221d5d1\nBus Type: \t PCIe\n\
         Device Minor: \t 5\nGPU Excluded:\t {excluded}\n"
    )
}

#[test]
fn a_host_says_what_its_files_say() {
    let root = host(&usual());
    let measured = measure(root.path(), &config("")).expect("measured");
    let right = Registration {
        host_id: "host-a".to_owned(),
        zone: "zone-a".to_owned(),
        rack: "rack-7".to_owned(),
        vcpus: 4,
        memory_mib: 15_745,
        network_mbps: 10_000,
        gpus: None,
    };
    assert_eq!(measured, Measured { registration: right, notes: vec![] });
}

#[test]
fn what_the_operator_says_is_not_measured_and_what_is_reserved_is_not_offered() {
    let given = "[capacity]\nvcpus = 8\nmemory_mib = 4096\nnetwork_mbps = 25\n\
                 gpus = { model = \"T4\", count = 2 }\nreserved_vcpus = 1\nreserved_memory_mib = 96";
    let nothing = host(&[]);
    let measured = measure(nothing.path(), &config(given)).expect("said");
    let is = measured.registration;
    assert_eq!((is.vcpus, is.memory_mib, is.network_mbps), (7, 4000, 25));
    assert_eq!(is.gpus, Some(Gpus { model: "T4".to_owned(), count: 2 }));
    assert_eq!(measured.notes, [""; 0]);
}

#[test]
fn what_cannot_be_measured_is_named_with_what_to_write() {
    let root = host(&[("proc/meminfo", "nothing\n")]);
    let error = measure(root.path(), &config("")).expect_err("unknown").to_string();
    for words in [
        "no `vcpus`, for /sys/devices/system/cpu/online",
        "`vcpus = …` below `[capacity]`",
        "/proc/meminfo says `nothing`",
        "`memory_mib = …`",
    ] {
        assert!(error.contains(words), "no {words} in: {error}");
    }
}

#[test]
fn a_host_that_keeps_all_for_itself_has_nothing_to_offer() {
    let root = host(&usual());
    let error = measure(root.path(), &config("[capacity]\nreserved_vcpus = 4")).expect_err("all");
    assert!(error.to_string().contains("4 of its 4 `vcpus` are reserved"), "{error}");
}

#[test]
fn a_speed_that_nobody_knows_is_guessed_and_said() {
    for (files, why) in [
        (vec![("sys/class/net/eth0/speed", "-1\n")], "/sys/class/net/eth0/speed says `-1`"),
        (vec![("proc/net/route", "Iface\n")], "no default route"),
    ] {
        let root = host(&[usual(), files].concat());
        let measured = measure(root.path(), &config("")).expect("guessed");
        assert_eq!(measured.registration.network_mbps, 1000);
        let [note] = &measured.notes[..] else { panic!("{:?}", measured.notes) };
        assert!(note.contains(why) && note.contains("`network_mbps = …`"), "{note}");
    }
}

#[test]
fn gpus_of_the_most_common_model_are_offered_and_the_others_are_named() {
    let a10g = information("NVIDIA A10G", "No");
    let t4 = information("Tesla T4", "No");
    let excluded = information("NVIDIA A10G", "Yes");
    let gpus = [
        ("proc/driver/nvidia/gpus/0000:00:1b.0/information", &*a10g),
        ("proc/driver/nvidia/gpus/0000:00:1c.0/information", &*t4),
        ("proc/driver/nvidia/gpus/0000:00:1d.0/information", &*a10g),
        ("proc/driver/nvidia/gpus/0000:00:1e.0/information", &*excluded),
        ("proc/driver/nvidia/gpus/0000:00:1f.0/information", "IRQ: 7\n"),
    ];
    let root = host(&[usual(), gpus.to_vec()].concat());
    let measured = measure(root.path(), &config("")).expect("measured");
    let right = Gpus { model: "A10G".to_owned(), count: 2 };
    assert_eq!(measured.registration.gpus, Some(right));
    let notes = measured.notes.join("\n");
    assert!(notes.contains("model = \"T4\", count = 1"), "{notes}");
    assert!(notes.contains("1f.0/information says `IRQ: 7`"), "{notes}");
    let none = config("[capacity]\ngpus = { model = \"A10G\", count = 0 }");
    assert_eq!(measure(root.path(), &none).expect("measured").registration.gpus, None);
}

#[test]
fn models_have_the_names_of_the_catalogue() {
    for (name, right) in [
        ("NVIDIA A10G", Some("A10G")),
        ("Tesla T4", Some("T4")),
        ("Tesla V100-SXM2-16GB", Some("V100")),
        ("NVIDIA A100-SXM4-40GB", Some("A100")),
        ("NVIDIA A100 80GB PCIe", Some("A100")),
        ("NVIDIA H100 80GB HBM3", Some("H100")),
        ("NVIDIA GeForce RTX 4090", Some("RTX-4090")),
        ("NVIDIA", None),
    ] {
        assert_eq!(model(name).as_deref(), right, "{name}");
    }
}

#[test]
fn this_machine_can_be_measured() {
    let is = measure(Path::new("/"), &config("")).expect("Linux says it").registration;
    let right = std::thread::available_parallelism().expect("known").get();
    assert!(usize::try_from(is.vcpus).expect("small") >= right && is.memory_mib > 0, "{is:?}");
}
