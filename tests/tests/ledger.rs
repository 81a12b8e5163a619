//! The ledger over HTTP: it balances whatever happens, and what is planted is found and named.

use axum::http::{Method, StatusCode};
use eventplane_domain::{HostId, InstanceId, Tenant};
use eventplane_handoff::assignment_key;
use eventplane_store::{Key, Store, Update, Write};
use eventplane_tests::site::Site;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

async fn check(site: &Site) -> Value {
    site.get("/v1/ledger").await
}

async fn balances(site: &Site, when: &str) -> Value {
    let report = check(site).await;
    assert_eq!((&report["balances"], &report["imbalances"]), (&json!(true), &json!([])), "{when}");
    report
}

/// Writes by hand, past every step.
async fn plant(site: &Site, writes: Vec<Write>) {
    site.plane.store().transact(writes).await.expect("written");
}

fn add(table: &'static str, partition: &str, sort: &str, name: &str, n: i64) -> Write {
    Write::update(Key::new(table, partition, sort), vec![Update::add(name, n)])
}

/// Plants something, and expects exactly this of the check: (what, id, words of the message, owner).
async fn finds(site: &Site, writes: Vec<Write>, right: &[(&str, &str, &str, Option<&str>)]) {
    plant(site, writes).await;
    let report = check(site).await;
    assert_eq!(report["balances"], false, "{report:#}");
    let found = report["imbalances"].as_array().expect("a list");
    assert_eq!(found.len(), right.len(), "{report:#}");
    for (what, id, words, owner) in right {
        let is_it = |one: &&Value| one["what"] == *what && one["id"] == *id;
        let one = found.iter().find(is_it).unwrap_or_else(|| panic!("{what} {id}: {report:#}"));
        assert!(one["message"].as_str().is_some_and(|said| said.contains(words)), "{one:#}");
        let owners = one["owners"].as_array().expect("owners");
        let is_named = |owner: &str| {
            owners.iter().any(|one| one["instance_id"] == owner && one["tenant"] == "default")
        };
        assert!(owner.is_none_or(is_named), "{one:#}");
    }
}

async fn running(site: &Site) -> Value {
    let id = site.launch_micro().await;
    site.until(&id, "running").await
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {value:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_balances_before_during_and_after_launches_whichever_step_is_broken() {
    let site = Site::with_hosts(6).await;
    let report = balances(&site, "nothing was launched").await;
    assert_eq!((&report["read"]["hosts"], &report["read"]["instances"]), (&json!(6), &json!(0)));
    for step in ["capacity", "network", "storage", "security", "handoff", "instances"] {
        site.plane.bus().pause(step);
        let (stays, goes) = (site.launch_micro().await, site.launch_micro().await);
        tokio::time::sleep(Duration::from_millis(30)).await;
        balances(&site, &format!("{step} is paused, and launches wait")).await;
        site.terminate(&goes).await;
        balances(&site, &format!("{step} is paused, and a termination waits")).await;
        site.plane.bus().resume(step);
        site.until(&stays, "running").await;
        site.until(&goes, "terminated").await;
        balances(&site, &format!("{step} has gone on")).await;
    }
    let refused = site.launch(json!({ "instance_type": "p5.48xlarge" })).await;
    site.until(&refused, "terminated").await;
    let report = balances(&site, "a launch was refused").await;
    assert_eq!((&report["read"]["instances"], &report["read"]["live"]), (&json!(13), &json!(6)));
    assert_eq!(report["read"]["leased"], 6, "{report:#}");
    assert!(report["read"]["resting"].as_u64() > Some(0), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_plane_gives_no_false_alarm() {
    let site = Arc::new(Site::with_hosts(12).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (site, is_over) = (site.clone(), is_over.clone());
        tasks.spawn(async move {
            let mut launched = 0;
            while !is_over.load(Ordering::SeqCst) {
                let id = site.launch_micro().await;
                site.until(&id, "running").await;
                site.terminate(&id).await;
                site.until(&id, "terminated").await;
                launched += 1;
            }
            launched
        });
    }
    for _ in 0..8 {
        balances(&site, "launches come and go").await;
    }
    // And what is really off is found all the same.
    let planted = vec![add("capacity", "@host/host-0003", "host", "free_memory", -7)];
    let right = ("host", "host-0003", "7 MiB are neither free nor held by a receipt", None);
    finds(&site, planted, &[right]).await;
    is_over.store(true, Ordering::SeqCst);
    let mut launched = 0;
    while let Some(done) = tasks.join_next().await {
        launched += done.expect("no launch failed");
    }
    assert!(launched > 8, "it was busy: {launched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_is_lost_or_given_twice_is_found_on_its_host() {
    let site = Site::with_hosts(3).await;
    let shown = running(&site).await;
    let (host, id) = (text(&shown, "/placement/host"), text(&shown, "/instance_id"));
    let of_host = format!("@host/{host}");
    let lost = vec![add("capacity", &of_host, "host", "free_vcpus", -1)];
    let right = ("host", host, "1 vCPUs are neither free nor held by a receipt", Some(id));
    finds(&site, lost, &[right]).await;
    let twice = vec![add("capacity", &of_host, "host", "free_vcpus", 3)];
    let right = ("host", host, "2 vCPUs are held by a receipt and free as well", Some(id));
    finds(&site, twice, &[right]).await;
    plant(&site, vec![add("capacity", &of_host, "host", "free_vcpus", -2)]).await;
    balances(&site, "it was put right").await;
}

/// Where the block of an address of a default subnet stands, and its slot.
fn block_of(shown: &Value) -> (String, String, u32, u32) {
    let subnet = text(shown, "/subnet_id");
    let address: std::net::Ipv4Addr = text(shown, "/private_ip").parse().expect("an address");
    // Default subnets are /20: their first address has none of the last 12 bits.
    let offset = u32::from(address) & 0xfff;
    let (block, slot) = (offset / 32, offset % 32);
    (format!("default/{subnet}/{:02}", block / 64), format!("b{block:04}"), block, slot)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_without_a_receipt_is_named_and_put_right_it_balances() {
    let site = Site::with_hosts(3).await;
    let shown = running(&site).await;
    let (partition, sort, block, slot) = block_of(&shown);
    let other = (slot + 1) % 30 + 1;
    let key = || Key::new("network", partition.clone(), sort.clone());
    let nobody = "i-0000000000000000a";
    let lease = vec![Update::set(format!("s{other}"), nobody), Update::add("n", 1)];
    let name = format!("{} block {block}", text(&shown, "/subnet_id"));
    let words = format!("is leased to {nobody}, whose receipt does not hold it");
    let right = ("addresses", &name[..], &words[..], Some(nobody));
    finds(&site, vec![Write::update(key(), lease)], &[right]).await;
    let back = vec![Update::remove(format!("s{other}")), Update::add("n", -1)];
    plant(&site, vec![Write::update(key(), back)]).await;
    balances(&site, "it was put right").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_without_its_lease_is_named_and_leases_that_are_counted_wrong() {
    let site = Site::with_hosts(3).await;
    let shown = running(&site).await;
    let id = text(&shown, "/instance_id");
    let (partition, sort, block, slot) = block_of(&shown);
    let key = || Key::new("network", partition.clone(), sort.clone());
    let name = format!("{} block {block}", text(&shown, "/subnet_id"));
    let free = vec![Update::remove(format!("s{slot}")), Update::add("n", -1)];
    let words = format!("is leased to nobody, and the receipt of {id} holds it");
    let right = ("addresses", &name[..], &words[..], Some(id));
    finds(&site, vec![Write::update(key(), free)], &[right]).await;
    let again = vec![Update::set(format!("s{slot}"), id), Update::add("n", 2)];
    let right = ("addresses", &name[..], "it counts 2 leases, and has 1", None);
    finds(&site, vec![Write::update(key(), again)], &[right]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_two_receipts_is_named_with_both() {
    let site = Site::with_hosts(3).await;
    let (first, second) = (running(&site).await, running(&site).await);
    let (first, other) = (text(&first, "/instance_id"), text(&second, "/instance_id"));
    let held = site.plane.store().get(&receipt_key("network", first)).await;
    let held = held.expect("read").expect("a receipt");
    let same = ["ip", "subnet", "cidr"].map(|name| Update::set(name, held[name].clone()));
    let (_, _, block, _) = block_of(&second);
    plant(&site, vec![Write::update(receipt_key("network", other), same.to_vec())]).await;
    let told = check(&site).await["imbalances"].to_string();
    let twice = format!("is leased to {first}, and the receipt of {other} holds it");
    assert!(told.contains(&twice), "{told}");
    let lost = format!("{} block {block}", text(&second, "/subnet_id"));
    let words = format!("is leased to {other}, whose receipt does not hold it");
    assert!(told.contains(&lost) && told.contains(&words), "{told}");
}

fn receipt_key(table: &'static str, id: &str) -> Key {
    let id = InstanceId::parse(id).expect("an id");
    Key::new(table, Tenant::local().partition(&id), "receipt")
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_a_pool_has_lost_is_found_and_volumes_that_stay_are_not_lost() {
    let site = Site::with_hosts(3).await;
    let volume = json!({ "size_gib": 20, "delete_on_termination": false });
    let asked = json!({ "instance_type": "t3.micro", "volumes": [volume] });
    let id = site.launch(asked).await;
    let shown = site.until(&id, "running").await;
    let kept = text(&shown, "/volumes/1/volume_id").to_owned();
    site.terminate(&id).await;
    site.until(&id, "terminated").await;
    let report = balances(&site, "a volume outlived its instance").await;
    assert_eq!(report["read"]["detached_volumes"], 1, "{report:#}");
    let entries = site.get("/v1/ledger/entries").await;
    let entry = &entries["entries"][0];
    assert_eq!(entries["entries"].as_array().map(Vec::len), Some(1), "{entries:#}");
    assert_eq!(
        (&entry["owner"]["volume_id"], &entry["owner"]["instance_id"]),
        (&json!(kept), &json!(id))
    );
    assert!(
        text(entry, "/holds").contains("20 GiB") && text(entry, "/holds").ends_with("detached")
    );

    let lost = vec![add("storage", "@pool/zone-a/io2/5", "pool", "free_gib", -8)];
    let right = ("pool", "zone-a/io2/5", "8 GiB are neither free nor held by a volume", None);
    finds(&site, lost, &[right]).await;
    plant(&site, vec![add("storage", "@pool/zone-a/io2/5", "pool", "free_gib", 8)]).await;
    let pool = text(&shown, "/volumes/1/pool").to_owned();
    let lost = vec![add("storage", &format!("@pool/{pool}"), "pool", "free_iops", 1)];
    let right = ("pool", &pool[..], "1 IOPS are held by a volume and free as well", Some(&id[..]));
    finds(&site, lost, &[right]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_terminated_and_holds_something_is_named_with_what_it_holds() {
    let site = Site::with_hosts(3).await;
    let shown = running(&site).await;
    let (host, id) = (text(&shown, "/placement/host"), text(&shown, "/instance_id"));
    let store = site.plane.store();
    let held = store.get(&receipt_key("capacity", id)).await.expect("read").expect("a receipt");
    site.terminate(id).await;
    site.until(id, "terminated").await;
    balances(&site, "it was terminated").await;
    // The room as it was, in the receipt and on the host.
    let names = ["host", "zone", "rack", "vcpus", "memory", "network", "gpus"];
    let again = names.map(|name| Update::set(name, held[name].clone()));
    let of_host = format!("@host/{host}");
    let planted = vec![
        Write::update(receipt_key("capacity", id), again.to_vec()),
        Write::update(
            Key::new("capacity", of_host, "host"),
            vec![
                Update::add("free_vcpus", -2),
                Update::add("free_memory", -1024),
                Update::add("free_network", -64),
            ],
        ),
    ];
    let words = format!("it is terminated and holds 2 vCPUs, 1024 MiB, 64 Mbps of {host}");
    finds(&site, planted, &[("instance", id, &words, Some(id))]).await;
    // A claim that cannot be read is no claim that is ignored.
    let broken = Write::update(receipt_key("capacity", id), vec![Update::remove("gpus")]);
    plant(&site, vec![broken]).await;
    let told = check(&site).await["imbalances"].to_string();
    assert!(told.contains("cannot be read") && told.contains("2 vCPUs are neither"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_outlives_its_instance_is_named_with_its_host() {
    let site = Site::with_hosts(3).await;
    let shown = running(&site).await;
    let (host, id) = (text(&shown, "/placement/host"), text(&shown, "/instance_id"));
    let (of, instance) = (HostId::parse(host), InstanceId::parse(id));
    let key = assignment_key(&of.expect("a host"), &Tenant::local(), &instance.expect("an id"));
    let item = site.plane.store().get(&key).await.expect("read").expect("an assignment");
    site.terminate(id).await;
    site.until(id, "terminated").await;
    let words = format!("it is terminated and holds an assignment of {host}");
    finds(&site, vec![Write::put(key, item)], &[("instance", id, &words, Some(id))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_entries_have_their_owner_and_what_was_taken_when() {
    let site = Site::with_hosts(3).await;
    let shown = running(&site).await;
    let answer = site.get("/v1/ledger/entries").await;
    assert_eq!(answer["next"], Value::Null);
    let entries = answer["entries"].as_array().expect("entries");
    let steps: Vec<&str> = entries.iter().map(|one| text(one, "/step")).collect();
    assert_eq!(steps, ["capacity", "network", "storage", "security"]);
    for entry in entries {
        let owner = &entry["owner"];
        let whose =
            (&owner["tenant"], &owner["instance_id"], &owner["generation"], &owner["state"]);
        let right = (&json!("default"), &shown["instance_id"], &json!(1), &json!("running"));
        assert_eq!(whose, right);
        assert_eq!(
            (&entry["log"][0]["what"], &entry["log"][0]["at"]),
            (&json!("taken"), &entry["since"])
        );
    }
    assert!(text(&entries[1], "/holds").starts_with(text(&shown, "/private_ip")));
    let (status, body) = site.send(Method::GET, "/v1/ledger/entries?next=zz", None).await;
    let code = &body["error"]["code"];
    assert_eq!((status, code), (StatusCode::BAD_REQUEST, &json!("InvalidPaginationToken")));
}
