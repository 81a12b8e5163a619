//! Images and volumes, through the router.

use super::*;
use async_trait::async_trait;
use axum::body::Body as HttpBody;
use axum::http::Request;
use eventplane_domain::{
    HostId, InstanceId, Launch, LaunchSpec, Millis, Outcome, Placement, Reason, Strategy,
    VolumeSpec, code,
};
use eventplane_engine::{
    Breaker, Breakers, Chance, Clock, DeadLetter, DeadLetters, Emit, Fault, Function, Handler,
    Origin, Ports, Publisher, Waiter, Watching, stamp,
};
use eventplane_events::{CapacityAllocated, Data, Entry, InstanceWithdrawn, envelope};
use eventplane_keys::LocalMasterKey;
use eventplane_local::store::EmbeddedStore;
use eventplane_storage::{PoolSizes, Storage, pools, seed};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tower::ServiceExt;

const NOW: Millis = Millis(1_795_000_000_000);

struct Still;
impl Clock for Still {
    fn now(&self) -> Millis {
        NOW
    }
}

struct Counting(AtomicU8);
impl Chance for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
    }
}

struct Nobody;
#[async_trait]
impl Publisher for Nobody {
    async fn publish(&self, _: Vec<Entry>) -> Result<(), Fault> {
        Ok(())
    }
}

fn ports() -> Ports {
    let tables = [eventplane_storage::TABLE, instances::TABLE];
    Ports {
        store: Arc::new(EmbeddedStore::in_memory(&tables).expect("a store")),
        bus: Arc::new(Nobody),
        clock: Arc::new(Still),
        chance: Arc::new(Counting(AtomicU8::new(0))),
    }
}

fn master(ports: &Ports) -> Arc<LocalMasterKey> {
    Arc::new(LocalMasterKey::from_bytes("m", [1; 32], ports.chance.clone()))
}

fn app(ports: &Ports) -> axum::Router {
    crate::router(crate::Api {
        ports: ports.clone(),
        waiter: Arc::new(Nobody),
        dead_letters: Arc::new(Nobody),
        breakers: Arc::new(Nobody),
        archive: None,
        master: master(ports),
        options: crate::Options::default(),
        limits: crate::Limits::off(),
    })
}

impl Waiter for Nobody {
    fn watch(&self, _: &'static str, _: &str) -> Option<Box<dyn Watching>> {
        None
    }
}

#[async_trait]
impl DeadLetters for Nobody {
    async fn list(&self, _: Option<&str>, _: usize) -> Result<Vec<DeadLetter>, Fault> {
        Ok(vec![])
    }
    async fn get(&self, _: &str) -> Result<Option<DeadLetter>, Fault> {
        Ok(None)
    }
    async fn redrive(&self, _: &str) -> Result<bool, Fault> {
        Ok(false)
    }
    async fn purge(&self, _: &str, _: Millis, _: usize) -> Result<usize, Fault> {
        Ok(0)
    }
}

#[async_trait]
impl Breakers for Nobody {
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault> {
        Ok(vec![])
    }
    async fn set_breaker(&self, _: &str, _: bool) -> Result<Option<Breaker>, Fault> {
        Ok(None)
    }
}

/// The status and the body of an answer; null where it has none.
async fn ask(ports: &Ports, method: &str, path: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).body(HttpBody::from(body.to_owned()));
    let answer = app(ports).oneshot(request.expect("a request")).await.expect("an answer");
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn make(ports: &Ports, name: &str) -> String {
    let body = json!({ "name": name, "root_gib": 20, "architecture": "arm64" }).to_string();
    let (status, image) = ask(ports, "POST", "/v1/images", &body).await;
    assert_eq!(status, 201, "{image}");
    image["image_id"].as_str().expect("an id").to_owned()
}

fn spec(image_id: &str, volumes: Vec<VolumeSpec>) -> LaunchSpec {
    LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
        memory_mib: 1024,
        network_mbps: 64,
        gpus: None,
        image_id: image_id.to_owned(),
        volumes,
        zone: None,
        subnet_id: None,
        private_ip: None,
        security_group_ids: vec![],
        role: None,
        user_data_ref: None,
        strategy: Strategy::Spread,
    }
}

#[tokio::test]
async fn an_image_is_made_listed_and_deleted() {
    let ports = ports();
    let id = make(&ports, "golden").await;
    let (status, all) = ask(&ports, "GET", "/v1/images", "").await;
    assert_eq!(status, 200);
    let all = all["images"].as_array().expect("a list");
    assert_eq!(all[0]["owner"], "catalogue");
    let own = json!({
        "image_id": id, "name": "golden", "architecture": "arm64", "root_device": "/dev/xvda",
        "root_gib": 20, "owner": "self",
    });
    assert_eq!(all.last(), Some(&own));
    let path = format!("/v1/images/{id}");
    assert_eq!(ask(&ports, "GET", &path, "").await, (200, own));
    assert_eq!(ask(&ports, "DELETE", &path, "").await, (204, Value::Null));
    let (status, problem) = ask(&ports, "DELETE", &path, "").await;
    assert_eq!((status, &problem["error"]["code"]), (404, &json!("InvalidAMIID.NotFound")));
}

#[tokio::test]
async fn what_cannot_be_made_or_deleted_is_told_what_would_be_right() {
    let ports = ports();
    make(&ports, "golden").await;
    let catalogue = format!("/v1/images/{}", images::catalogue()[0].image_id);
    let long = format!(r#"{{"name":"{}","root_gib":8}}"#, "a".repeat(65 * 1024));
    for (method, path, body, status, says) in [
        ("POST", "/v1/images", "", 400, "one JSON object"),
        ("POST", "/v1/images", r#"{"name":"abc"}"#, 400, "root_gib"),
        (
            "POST",
            "/v1/images",
            r#"{"name":"abc","root_gib":8,"size":1}"#,
            400,
            "unknown field `size`",
        ),
        ("POST", "/v1/images", r#"{"name":"abc","root_gib":"8"}"#, 400, "expected u32"),
        ("POST", "/v1/images", r#"{"name":"abc","root_gib":0}"#, 400, "1 to 16384"),
        ("POST", "/v1/images", r#"{"name":"a","root_gib":8}"#, 400, "3 to 128"),
        ("POST", "/v1/images", r#"{"name":"abc","root_gib":8,"architecture":"vax"}"#, 400, "arm64"),
        ("POST", "/v1/images", r#"{"name":"golden","root_gib":8}"#, 409, "has the name"),
        ("POST", "/v1/images", &long, 413, "65536 bytes"),
        ("GET", "/v1/images/ami-00000000000000000", "", 404, "lists them"),
        ("DELETE", "/v1/images/golden", "", 400, "17 hexadecimal digits"),
        ("DELETE", &catalogue, "", 409, "only your own"),
        ("DELETE", "/v1/volumes/vol-1", "", 400, "19 hexadecimal digits"),
        ("DELETE", "/v1/volumes/vol-0123456789abcdef012", "", 404, "no volume"),
    ] {
        let (given, problem) = ask(&ports, method, path, body).await;
        let message = problem["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(given, status, "{method} {path}: {problem}");
        assert!(message.contains(says), "{method} {path}: {problem}");
    }
}

#[tokio::test]
async fn an_image_is_not_deleted_while_an_instance_of_it_is_not_terminated() {
    let ports = ports();
    let (used, other) = (make(&ports, "used").await, make(&ports, "other").await);
    let id = InstanceId::new(NOW, 1);
    let wants = spec(&used, vec![]);
    let record = instances::Record::requested(Tenant::local(), id.clone(), wants, NOW, NOW);
    ports.store.transact(vec![record.create()]).await.expect("written");
    let path = format!("/v1/images/{used}");
    let (status, problem) = ask(&ports, "DELETE", &path, "").await;
    assert_eq!(status, 409, "{problem}");
    assert!(
        problem["error"]["message"].as_str().unwrap_or_default().contains(id.as_str()),
        "{problem}"
    );
    assert_eq!(ask(&ports, "DELETE", &format!("/v1/images/{other}"), "").await.0, 204);

    let ended = instances::Record { ended_at: Some(NOW), ..record.clone() };
    ports.store.transact(vec![ended.replace(&record)]).await.expect("written");
    assert_eq!(ask(&ports, "DELETE", &path, "").await.0, 204);
}

/// Lets the storage step hear of it.
async fn hear(ports: &Ports, instance: &InstanceId, data: Data) {
    let tenant = Tenant::local();
    let origin = Origin::Fresh { tenant: &tenant, subject: instance, traceparent: None };
    let emit = Emit { data, generation: 1, deadline: NOW.plus(1) };
    let event = stamp(ports, "test", &origin, emit);
    let step = Storage::new(master(ports), ports.chance.clone());
    let step = Function::new(step, ports.clone());
    step.handle(&envelope(&event.entry(), "b-1", "")).await.expect("handled");
}

#[tokio::test]
async fn a_volume_that_outlived_its_instance_is_listed_and_deleted() {
    let ports = ports();
    seed(&*ports.store, &["a".to_owned()], PoolSizes::default()).await.expect("seeded");
    let volume = VolumeSpec {
        device: "/dev/sdf".to_owned(),
        volume_type: "gp3".to_owned(),
        size_gib: 50,
        iops: 3_000,
        delete_on_termination: false,
    };
    let id = InstanceId::new(NOW, 1);
    let host = HostId::parse("h-1").expect("a host id");
    let placement = Placement { host, zone: "a".to_owned(), rack: "r1".to_owned() };
    let launch =
        Launch { spec: spec("ami-1", vec![volume]), placement, has_run: false, replaced: 0 };
    hear(&ports, &id, Data::CapacityAllocated(CapacityAllocated { launch })).await;
    let path = format!("/v1/volumes/{}", id.volume(0));
    let (status, problem) = ask(&ports, "DELETE", &path, "").await;
    assert_eq!((status, &problem["error"]["code"]), (409, &json!("VolumeInUse")));
    assert_eq!(ask(&ports, "GET", "/v1/volumes", "").await, (200, json!({ "volumes": [] })));

    let reason = Reason::new(code::USER_SHUTDOWN, "asked");
    let outcome = Outcome::Terminate;
    hear(
        &ports,
        &id,
        Data::InstanceWithdrawn(InstanceWithdrawn { outcome, reason, has_run: false }),
    )
    .await;
    let (_, all) = ask(&ports, "GET", "/v1/volumes", "").await;
    let listed = &all["volumes"][0];
    assert_eq!(listed["volume_id"], json!(id.volume(0)));
    assert_eq!(listed["instance_id"], json!(id));
    assert_eq!((&listed["size_gib"], &listed["zone"]), (&json!(50), &json!("a")));
    assert_eq!(ask(&ports, "DELETE", &path, "").await, (204, Value::Null));
    assert_eq!(ask(&ports, "DELETE", &path, "").await.0, 404);
    let gp3 = &pools(&*ports.store).await.expect("read")[0];
    assert_eq!((gp3.free_gib, gp3.free_iops), (gp3.total_gib, gp3.total_iops));
}

#[tokio::test]
async fn every_route_is_in_the_document() {
    let (_, document) = ask(&ports(), "GET", "/openapi.json", "").await;
    for (path, verbs) in [
        ("/v1/images", &["get", "post"][..]),
        ("/v1/images/{image_id}", &["get", "delete"]),
        ("/v1/volumes", &["get"]),
        ("/v1/volumes/{volume_id}", &["delete"]),
    ] {
        for verb in verbs {
            assert!(document["paths"][path][verb].is_object(), "{verb} {path}");
        }
    }
}
