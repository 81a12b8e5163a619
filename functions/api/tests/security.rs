//! Roles, the audit record and identities through the router.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use eventplane_api::{Api, Limits, Options, router};
use eventplane_domain::{
    HostId, InstanceId, Launch, LaunchSpec, Millis, Outcome, Placement, Reason, Strategy, Tenant,
};
use eventplane_engine::{
    Breaker, Breakers, Clock, DeadLetter, DeadLetters, Fault, Function, Handler, Ports, Publisher,
};
use eventplane_engine::{OsChance, SystemClock};
use eventplane_events::{
    CapacityAllocated, Data, Entry, Event, InstanceWithdrawn, Metadata, SCHEMA_VERSION, envelope,
};
use eventplane_instances::Record;
use eventplane_keys::LocalMasterKey;
use eventplane_local::store::EmbeddedStore;
use eventplane_security::document::{SignedDocument, verify};
use eventplane_security::{Security, receipt_key};
use eventplane_store::{Store, Update, Write};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

/// Takes what the step publishes; there are no dead letters.
struct Nobody;

#[async_trait]
impl Publisher for Nobody {
    async fn publish(&self, _: Vec<Entry>) -> Result<(), Fault> {
        Ok(())
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

/// The router, and the step that writes what it shows.
struct Site {
    api: Router,
    step: Function<Security>,
    store: Arc<EmbeddedStore>,
}

fn site() -> Site {
    let tables = [eventplane_security::TABLE, eventplane_instances::TABLE];
    let store = Arc::new(EmbeddedStore::in_memory(&tables).expect("a store"));
    let chance = Arc::new(OsChance::default());
    let master = Arc::new(LocalMasterKey::from_bytes("local", [7; 32], chance.clone()));
    let ports = Ports {
        store: store.clone(),
        bus: Arc::new(Nobody),
        clock: Arc::new(SystemClock),
        chance: chance.clone(),
    };
    let step = Function::new(Security::new(master.clone(), chance), ports.clone());
    let api = router(Api {
        ports,
        waiter: store.clone(),
        dead_letters: Arc::new(Nobody),
        breakers: Arc::new(Nobody),
        archive: None,
        master,
        options: Options::default(),
        limits: Limits::off(),
    });
    Site { api, step, store }
}

fn id() -> InstanceId {
    InstanceId::new(Millis(1), 1)
}

impl Site {
    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder().method(method).uri(path).body(body).expect("a request");
        let response = self.api.clone().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        (status, json)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, json) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{json}");
        json
    }

    /// Of the test's instance: its audit record or its identity.
    async fn of_instance(&self, what: &str) -> (u16, Value) {
        let path = format!("/v1/instances/{}/{what}", id());
        self.call(Method::GET, &path, Value::Null).await
    }

    async fn hear(&self, data: Data) {
        let metadata = Metadata {
            id: "e-1".to_owned(),
            kind: data.name().to_owned(),
            schemaversion: SCHEMA_VERSION.to_owned(),
            time: Millis(1),
            source: "eventplane.capacity".to_owned(),
            subject: id(),
            correlationid: "c-1".to_owned(),
            causationid: None,
            tenant: Tenant::local(),
            generation: 1,
            deadline: SystemClock.now().plus(60_000),
            hop: 1,
            traceparent: None,
        };
        let entry = Event { metadata, data }.entry();
        let message = envelope(&entry, "b-1", "2026-11-24T00:00:00Z");
        self.step.handle(&message).await.expect("handled");
    }
}

fn spec(role: &str) -> LaunchSpec {
    LaunchSpec {
        reservation_id: "r-1".to_owned(),
        launch_index: 0,
        instance_type: "t3.micro".to_owned(),
        vcpus: 2,
        memory_mib: 1024,
        network_mbps: 64,
        gpus: None,
        image_id: "ami-1".to_owned(),
        volumes: vec![],
        zone: None,
        subnet_id: None,
        private_ip: None,
        security_group_ids: vec![],
        role: Some(role.to_owned()),
        user_data_ref: None,
        strategy: Strategy::Spread,
    }
}

fn allocated(role: &str) -> Data {
    let host = HostId::parse("h-1").expect("a host id");
    let placement = Placement { host, zone: "a".to_owned(), rack: "r".to_owned() };
    let launch = Launch { spec: spec(role), placement, has_run: false, replaced: 0 };
    Data::CapacityAllocated(CapacityAllocated { launch })
}

fn terminated() -> Data {
    let reason = Reason::new("Client.UserInitiatedShutdown", "asked");
    Data::InstanceWithdrawn(InstanceWithdrawn {
        has_run: false,
        outcome: Outcome::Terminate,
        reason,
    })
}

fn refused((status, json): (u16, Value), right: (u16, &str)) {
    let code = json["error"]["code"].as_str();
    assert_eq!((status, code), (right.0, Some(right.1)), "{json}");
    assert!(json["error"]["message"].is_string() && json["error"]["request_id"].is_string());
}

#[tokio::test]
async fn a_role_lives_and_ends_over_http_and_stays_while_an_instance_has_it() {
    let site = site();
    let role = json!({"name": "web", "permissions": ["s3:GetObject"]});
    let (status, made) = site.call(Method::POST, "/v1/roles", role.clone()).await;
    assert_eq!((status, made["name"].as_str()), (201, Some("web")), "{made}");
    assert_eq!(site.get("/v1/roles/web").await, made);
    assert_eq!(site.get("/v1/roles").await["roles"], json!([made]));
    let (status, again) = site.call(Method::POST, "/v1/roles", role).await;
    assert_eq!(status, 409, "{again}");

    let delete = async || site.call(Method::DELETE, "/v1/roles/web", Value::Null).await;
    site.hear(allocated("web")).await;
    refused(delete().await, (409, "DependencyViolation"));
    site.hear(terminated()).await;
    assert_eq!(delete().await.0, 204);
    refused(delete().await, (404, "InvalidIamInstanceProfile.NotFound"));
}

#[tokio::test]
async fn a_role_that_is_not_right_is_refused() {
    let site = site();
    for (bad, code) in [
        (json!({"name": "a/b"}), "InvalidParameterValue"),
        (json!({"name": ""}), "InvalidParameterValue"),
        (json!({"name": "a", "colour": "blue"}), "UnknownParameter"),
    ] {
        refused(site.call(Method::POST, "/v1/roles", bad).await, (400, code));
    }
    for bad in [json!({}), json!({"name": 1}), json!([])] {
        let (status, json) = site.call(Method::POST, "/v1/roles", bad).await;
        assert_eq!(status, 400, "{json}");
    }
    assert_eq!(site.get("/v1/roles").await["roles"], json!([]));
}

#[tokio::test]
async fn an_identity_is_verified_with_a_published_key_and_gone_after_the_end() {
    let site = site();
    assert_eq!(site.get("/v1/identity-keys").await["keys"], json!([]));
    site.call(Method::POST, "/v1/roles", json!({"name": "web"})).await;
    refused(site.of_instance("identity").await, (404, "InvalidInstanceID.NotFound"));
    site.hear(allocated("web")).await;
    let (status, identity) = site.of_instance("identity").await;
    assert_eq!(status, 200, "{identity}");
    let signed: SignedDocument = serde_json::from_value(identity).expect("a signed document");
    let keys = site.get("/v1/identity-keys").await;
    assert_eq!(keys["keys"][0]["key_id"], signed.key_id.as_str());
    let public = keys["keys"][0]["public_key"].as_str().expect("a key");
    assert!(verify(&signed, public));
    assert!(signed.document.contains(id().as_str()));
    site.hear(terminated()).await;
    refused(site.of_instance("identity").await, (404, "InvalidIdentity.NotFound"));
}

#[tokio::test]
async fn an_audit_record_is_shown_and_says_when_somebody_has_changed_it() {
    let site = site();
    refused(site.of_instance("audit").await, (404, "InvalidInstanceID.NotFound"));
    let asked = Record::requested(Tenant::local(), id(), spec("web"), Millis(1), Millis(2));
    site.store.transact(vec![asked.create()]).await.expect("written");
    let (status, record) = site.of_instance("audit").await;
    let nothing_yet = json!({"instance_id": id(), "entries": [], "verified": null});
    assert_eq!((status, record), (200, nothing_yet));
    refused(site.of_instance("identity").await, (404, "InvalidIdentity.NotFound"));
    site.hear(allocated("web")).await;
    site.hear(terminated()).await;
    let (_, record) = site.of_instance("audit").await;
    assert_eq!((&record["verified"], &record["broken"]), (&json!(true), &Value::Null), "{record}");
    let deeds: Vec<&Value> = (0..2).map(|n| &record["entries"][n]["deed"]).collect();
    assert_eq!(deeds, ["refused", "revoked"]);
    assert_eq!(record["entries"][0]["source"], "eventplane.capacity");
    assert_eq!(record["entries"][0]["role"], "web");

    let key = receipt_key(&Tenant::local(), &id());
    let forged = Update::set("audit", "[]");
    site.store.transact(vec![Write::update(key, vec![forged])]).await.expect("written");
    let (status, record) = site.of_instance("audit").await;
    assert_eq!((status, &record["verified"]), (200, &json!(false)), "{record}");
    assert!(record["broken"].is_string());
}

#[tokio::test]
async fn an_id_that_is_malformed_is_refused_with_its_form() {
    let site = site();
    for what in ["audit", "identity"] {
        let path = format!("/v1/instances/i-123/{what}");
        refused(
            site.call(Method::GET, &path, Value::Null).await,
            (400, "InvalidInstanceID.Malformed"),
        );
    }
}
