//! EC2's error names, each produced over HTTP by a request that deserves it: its status, its class,
//! whether repeating helps, the field that it is about, and a request id.
//!
//! Source of the names: "Error codes for the Amazon EC2 API", EC2 API reference.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use eventplane_api::{Api, LimitSettings, Limits, Options};
use eventplane_domain::{InstanceId, Tenant};
use eventplane_engine::Ports;
use eventplane_instances::record_key;
use eventplane_keys::LocalMasterKey;
use eventplane_plane::PlaneOptions;
use eventplane_storage::{PoolSize, PoolSizes};
use eventplane_store::{
    FaultKind, Item, Key, Page, Query, Store, StoreFault, TransactError, Update, Write,
};
use eventplane_tests::site::{Site, options};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tower::ServiceExt;

/// How a name is told.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// In the answer of the request: its status, and the field that it is about.
    Answer(u16, &'static str),
    /// As the reason for which a launch has failed: a launch is answered before it is decided. The
    /// word before its code.
    Reason(&'static str),
}
use Told::{Answer, Reason};

/// A name: how it is told, its class, and whether repeating helps. How it comes about is in
/// [`Stage::produce`].
type Row = (&'static str, Told, &'static str, bool);

/// The names that apply.
const TABLE: &[Row] = &[
    ("DryRunOperation", Answer(412, ""), "invalid", false),
    ("IncorrectInstanceState", Answer(409, ""), "conflict", false),
    ("InstanceLimitExceeded", Answer(400, ""), "quota", false),
    ("OperationNotPermitted", Answer(409, ""), "conflict", false),
    ("RequestLimitExceeded", Answer(503, ""), "throttled", true),
    ("VcpuLimitExceeded", Answer(400, ""), "quota", false),
    ("VolumeLimitExceeded", Answer(400, ""), "quota", false),
    ("IdempotentInstanceTerminated", Answer(400, "client_token"), "invalid", false),
    ("IdempotentParameterMismatch", Answer(409, "client_token"), "conflict", false),
    ("InsufficientFreeAddressesInSubnet", Reason("Client"), "capacity", false),
    ("InsufficientInstanceCapacity", Reason("Server"), "capacity", true),
    ("InsufficientVolumeCapacity", Reason("Server"), "capacity", true),
    ("InternalError", Answer(500, ""), "internal", true),
    ("InvalidAMIID.NotFound", Answer(400, "image_id"), "invalid", false),
    ("InvalidGroup.NotFound", Answer(400, "security_group_ids"), "invalid", false),
    ("InvalidInstanceID.Malformed", Answer(400, "instance_id"), "invalid", false),
    ("InvalidInstanceID.NotFound", Answer(404, "instance_id"), "invalid", false),
    ("InvalidInstanceType", Answer(400, "instance_type"), "invalid", false),
    ("InvalidPaginationToken", Answer(400, "next"), "invalid", false),
    ("InvalidParameterCombination", Answer(400, "private_ip"), "invalid", false),
    ("InvalidParameterValue", Answer(400, "count"), "invalid", false),
    ("InvalidSubnetID.NotFound", Answer(400, "subnet_id"), "invalid", false),
    ("InvalidVolume.NotFound", Answer(404, ""), "invalid", false),
    ("MissingParameter", Answer(400, "instance_type"), "invalid", false),
    ("ServiceUnavailable", Answer(503, ""), "internal", true),
    ("TagLimitExceeded", Answer(400, "tags"), "quota", false),
    ("UnauthorizedOperation", Answer(403, ""), "auth", false),
    ("UnknownParameter", Answer(400, "colour"), "invalid", false),
];

/// The names that do not apply, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("AuthFailure", "who somebody is, the gateway checks before the api; locally nobody is asked"),
    ("InsufficientAddressCapacity", "it is of elastic addresses, and there are none"),
    ("InvalidPlacementGroup.Unknown", "there are no placement groups"),
    (
        "InvalidVolume.ZoneMismatch",
        "a later placement keeps its volumes' zone; storage's own table has the refusal",
    ),
];

/// All names that clients of EC2 know of launches, in its order of client's and server's errors.
const NAMES: &[&str] = &[
    "AuthFailure",
    "UnauthorizedOperation",
    "DryRunOperation",
    "MissingParameter",
    "InvalidParameterValue",
    "InvalidParameterCombination",
    "UnknownParameter",
    "InvalidPaginationToken",
    "IdempotentParameterMismatch",
    "IdempotentInstanceTerminated",
    "InvalidInstanceID.Malformed",
    "InvalidInstanceID.NotFound",
    "InvalidInstanceType",
    "IncorrectInstanceState",
    "OperationNotPermitted",
    "InstanceLimitExceeded",
    "VcpuLimitExceeded",
    "InvalidAMIID.NotFound",
    "InvalidSubnetID.NotFound",
    "InvalidGroup.NotFound",
    "InsufficientFreeAddressesInSubnet",
    "InvalidVolume.NotFound",
    "InvalidVolume.ZoneMismatch",
    "VolumeLimitExceeded",
    "TagLimitExceeded",
    "InvalidPlacementGroup.Unknown",
    "InsufficientInstanceCapacity",
    "InsufficientAddressCapacity",
    "InsufficientVolumeCapacity",
    "InternalError",
    "RequestLimitExceeded",
    "ServiceUnavailable",
];

/// A store that answers nothing.
struct Down;

fn down() -> StoreFault {
    StoreFault::new(FaultKind::Unavailable, "down for the test")
}

#[async_trait]
impl Store for Down {
    async fn get(&self, _: &Key) -> Result<Option<Item>, StoreFault> {
        Err(down())
    }
    async fn batch_get(&self, _: &[Key]) -> Result<Vec<Option<Item>>, StoreFault> {
        Err(down())
    }
    async fn query(&self, _: &Query) -> Result<Page, StoreFault> {
        Err(down())
    }
    async fn transact(&self, _: Vec<Write>) -> Result<(), TransactError> {
        Err(down().into())
    }
}

/// A plane on which every name can be produced.
struct Stage {
    site: Site,
}

/// An answer as it came.
struct Came {
    status: StatusCode,
    request_id: String,
    body: Value,
}

async fn send(router: Router, request: Request<Body>) -> Came {
    let Ok(response) = router.oneshot(request).await;
    let status = response.status();
    let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let request_id = id.unwrap_or_default().to_owned();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    Came { status, request_id, body: serde_json::from_slice(&bytes).expect("JSON") }
}

fn request(method: Method, path: &str, body: Option<&Value>) -> Request<Body> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(body)).expect("a request")
}

impl Stage {
    async fn new() -> Stage {
        let gp3 = PoolSize { gib: 800, iops: 600_000 };
        let pool_sizes = PoolSizes { gp3, ..PoolSizes::default() };
        Stage { site: Site::start(PlaneOptions { pool_sizes, ..options(6) }).await }
    }

    async fn launch(&self, more: Value) -> Came {
        let mut body = json!({ "instance_type": "t3.micro" });
        body.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
        send(self.site.plane.router(), request(Method::POST, "/v1/instances", Some(&body))).await
    }
    async fn get(&self, path: &str) -> Came {
        send(self.site.plane.router(), request(Method::GET, path, None)).await
    }

    /// The launch, once it has failed.
    async fn fail(&self, more: Value) -> Came {
        let came = self.launch(more).await;
        let id = came.body["instances"][0]["instance_id"].as_str().expect("an id");
        self.site.until(id, "terminated").await;
        self.get(&format!("/v1/instances/{id}/why")).await
    }

    /// A subnet of eleven addresses, all leased.
    async fn full_subnet(&self) -> Value {
        let body = json!({ "zone": "zone-a", "cidr_block": "10.0.0.0/28" });
        let (_, made) = self.site.send(Method::POST, "/v1/subnets", Some(body)).await;
        let came = self.launch(json!({ "subnet_id": made["subnet_id"], "count": 11 })).await;
        for one in came.body["instances"].as_array().expect("instances") {
            self.site.until(one["instance_id"].as_str().expect("an id"), "running").await;
        }
        made["subnet_id"].clone()
    }

    /// Uses a client token, and ends what was launched with it.
    async fn use_up(&self, token: &str) {
        let came = self.launch(json!({ "client_token": token })).await;
        let id = came.body["instances"][0]["instance_id"].as_str().expect("an id").to_owned();
        self.site.terminate(&id).await;
        self.site.until(&id, "terminated").await;
    }

    /// An instance whose record nobody can read.
    async fn unreadable(&self) -> String {
        let id = self.site.launch_micro().await;
        self.site.until(&id, "running").await;
        let key = record_key(&Tenant::local(), &InstanceId::parse(&id).expect("an id"));
        let spoilt = Write::update(key, vec![Update::set("spec", "not a specification")]);
        self.site.plane.store().transact(vec![spoilt]).await.expect("written");
        id
    }

    /// The plane's api on these ports, where so much is allowed.
    fn router(&self, ports: Ports, limits: Limits) -> Router {
        let plane = &self.site.plane;
        let master = LocalMasterKey::from_bytes("test", [7; 32], ports.chance.clone());
        eventplane_api::router(Api {
            ports,
            waiter: plane.store().clone(),
            dead_letters: plane.bus().clone(),
            breakers: plane.bus().clone(),
            archive: None,
            master: Arc::new(master),
            limits,
            options: Options::default(),
        })
    }

    /// The api on a store that is down.
    fn without_store(&self) -> Router {
        let ports = Ports { store: Arc::new(Down), ..self.site.plane.ports().clone() };
        self.router(ports, Limits::off())
    }

    /// A launch where so much is allowed.
    async fn limited(&self, limits: &str, more: Value) -> Came {
        let limits = Limits::new(LimitSettings::parse(limits).expect("limits"));
        let router = self.router(self.site.plane.ports().clone(), limits);
        let mut body = json!({ "instance_type": "t3.micro" });
        body.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
        send(router, request(Method::POST, "/v1/instances", Some(&body))).await
    }

    /// Sends the request that deserves this name.
    async fn produce(&self, name: &str) -> Came {
        let none = "i-0000000000000000f";
        match name {
            "DryRunOperation" => self.launch(json!({ "dry_run": true })).await,
            "IdempotentInstanceTerminated" => {
                self.use_up("ended").await;
                self.launch(json!({ "client_token": "ended" })).await
            }
            "IdempotentParameterMismatch" => {
                self.launch(json!({ "client_token": "one" })).await;
                self.launch(json!({ "client_token": "one", "count": 2 })).await
            }
            "InsufficientFreeAddressesInSubnet" => {
                let subnet_id = self.full_subnet().await;
                self.fail(json!({ "subnet_id": subnet_id })).await
            }
            "InsufficientInstanceCapacity" => {
                self.fail(json!({ "instance_type": "p5.48xlarge" })).await
            }
            "InsufficientVolumeCapacity" => {
                self.fail(json!({ "volumes": [{ "size_gib": 300 }] })).await
            }
            "InternalError" => {
                let id = self.unreadable().await;
                self.get(&format!("/v1/instances/{id}")).await
            }
            "InvalidAMIID.NotFound" => {
                self.launch(json!({ "image_id": "ami-00000000000000000" })).await
            }
            "InvalidGroup.NotFound" => {
                self.launch(json!({ "security_group_ids": ["sg-00000000000000000"] })).await
            }
            "InvalidInstanceID.Malformed" => self.get("/v1/instances/i-1").await,
            "InvalidInstanceID.NotFound" => self.get(&format!("/v1/instances/{none}")).await,
            "InvalidInstanceType" => self.launch(json!({ "instance_type": "t3.huge" })).await,
            "InvalidPaginationToken" => self.get("/v1/instances?next=zz").await,
            "InvalidParameterCombination" => {
                self.launch(json!({ "private_ip": "172.31.0.30" })).await
            }
            "InvalidParameterValue" => self.launch(json!({ "count": 0 })).await,
            "InvalidSubnetID.NotFound" => {
                self.launch(json!({ "subnet_id": "subnet-00000000000000000" })).await
            }
            "InvalidVolume.NotFound" => {
                let path = "/v1/volumes/vol-0000000000000000000";
                send(self.site.plane.router(), request(Method::DELETE, path, None)).await
            }
            "MissingParameter" => self.launch(json!({ "instance_type": null })).await,
            "ServiceUnavailable" => {
                send(self.without_store(), request(Method::GET, "/v1/instances", None)).await
            }
            "TagLimitExceeded" => {
                let tags = (0..51).map(|n| (format!("k{n}"), json!("v")));
                self.launch(json!({ "tags": tags.collect::<serde_json::Map<_, _>>() })).await
            }
            "UnauthorizedOperation" => {
                // As the gateway's authorizer says whose a token is.
                let tenant = Tenant::parse("acme").expect("a tenant");
                let mut request = request(Method::GET, "/v1/hosts", None);
                request.extensions_mut().insert(Some(tenant));
                send(self.site.plane.router(), request).await
            }
            "UnknownParameter" => self.launch(json!({ "colour": "blue" })).await,
            name => self.produce_of_limits_and_states(name).await,
        }
    }

    /// The same, of names that have to do with an instance's state, or with what is limited.
    async fn produce_of_limits_and_states(&self, name: &str) -> Came {
        match name {
            "IncorrectInstanceState" => {
                self.use_up("gone").await;
                let ended = self.get("/v1/instances?state=terminated").await;
                let id = ended.body["instances"][0]["instance_id"].as_str().expect("one");
                let path = format!("/v1/instances/{id}/start");
                send(self.site.plane.router(), request(Method::POST, &path, None)).await
            }
            "InstanceLimitExceeded" => self.limited("instances=1", json!({ "count": 2 })).await,
            "VcpuLimitExceeded" => self.limited("vcpus=1", json!({})).await,
            "VolumeLimitExceeded" => {
                self.limited("volumes=1", json!({ "volumes": [{ "size_gib": 1 }] })).await
            }
            "OperationNotPermitted" => {
                let came = self.launch(json!({ "termination_protection": true })).await;
                let id = came.body["instances"][0]["instance_id"].as_str().expect("an id");
                let path = format!("/v1/instances/{id}");
                send(self.site.plane.router(), request(Method::DELETE, &path, None)).await
            }
            "RequestLimitExceeded" => {
                self.limited("RunInstances=1/1", json!({ "dry_run": true })).await;
                self.limited("RunInstances=1/1", json!({ "dry_run": true })).await
            }
            name => panic!("no request deserves {name}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_that_applies_is_produced_with_all_that_a_client_needs() {
    let stage = Stage::new().await;
    for (name, told, class, retry) in TABLE {
        let Came { status, request_id, body } = stage.produce(name).await;
        assert!(!request_id.is_empty(), "{name}: {body}");
        let (error, code) = match told {
            Answer(right, field) => {
                let error = &body["error"];
                assert_eq!(status.as_u16(), *right, "{name}: {body}");
                assert_eq!(error["field"].as_str().unwrap_or_default(), *field, "{name}: {body}");
                assert_eq!(error["request_id"], request_id, "{name}: {body}");
                assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{body}");
                (error, (*name).to_owned())
            }
            Reason(side) => (&body["failed"], format!("{side}.{name}")),
        };
        assert_eq!(error["code"], code, "{name}: {body}");
        assert_eq!((&error["class"], &error["retry"]), (&json!(class), &json!(retry)), "{name}");
        assert!(error["message"].as_str().is_some_and(|said| !said.is_empty()), "{name}: {body}");
    }
}

#[test]
fn every_name_is_produced_or_it_is_said_why_not() {
    let tabled = TABLE.iter().map(|(name, ..)| *name);
    let told: Vec<&str> = tabled.chain(NOT_HERE.iter().map(|one| one.0)).collect();
    let once: BTreeSet<&str> = told.iter().copied().collect();
    assert_eq!(told.len(), once.len(), "a name stands in one place");
    assert_eq!(once, NAMES.iter().copied().collect(), "every name, and no other");
    assert!(NOT_HERE.iter().all(|(_, why)| !why.is_empty()));
}
