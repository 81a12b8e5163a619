//! Subnets, route tables and security groups through the router.

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use eventplane_api::{Api, Limits, Options, router};
use eventplane_domain::Millis;
use eventplane_domain::Tenant;
use eventplane_engine::{Breaker, Breakers, DeadLetter, DeadLetters, Fault, Ports, Publisher};
use eventplane_engine::{OsChance, SystemClock};
use eventplane_events::Entry;
use eventplane_keys::LocalMasterKey;
use eventplane_local::store::EmbeddedStore;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

/// None of these routes publishes an event, and there are no dead letters.
struct Nobody;

#[async_trait]
impl Publisher for Nobody {
    async fn publish(&self, entries: Vec<Entry>) -> Result<(), Fault> {
        panic!("published {entries:?}")
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

async fn api() -> Router {
    let tables = [eventplane_network::TABLE];
    let store = Arc::new(EmbeddedStore::in_memory(&tables).expect("a store in memory"));
    let tenant = Tenant::local();
    eventplane_network::seed(&*store, &tenant, &["zone-a".to_owned()]).await.expect("seeded");
    let chance = Arc::new(OsChance::default());
    let master = LocalMasterKey::from_bytes("local", [7; 32], chance.clone());
    let ports =
        Ports { store: store.clone(), bus: Arc::new(Nobody), clock: Arc::new(SystemClock), chance };
    router(Api {
        ports,
        waiter: store,
        dead_letters: Arc::new(Nobody),
        breakers: Arc::new(Nobody),
        archive: None,
        master: Arc::new(master),
        options: Options { tenant, ..Options::default() },
        limits: Limits::off(),
    })
}

async fn call(api: &Router, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).body(body).expect("a request");
    let response = api.clone().oneshot(request).await.expect("an answer");
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    let json =
        if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
    (status, json)
}

async fn get(api: &Router, path: &str) -> Value {
    let (status, json) = call(api, Method::GET, path, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{json}");
    json
}

async fn post(api: &Router, path: &str, body: Value) -> (StatusCode, Value) {
    call(api, Method::POST, path, body).await
}

async fn delete(api: &Router, path: &str, body: Value) -> (StatusCode, Value) {
    call(api, Method::DELETE, path, body).await
}

fn text(json: &Value, field: &str) -> String {
    json[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {json}")).to_owned()
}

/// Checks the status and the code of a refusal, and that it has the form of all errors.
fn refused((status, json): (StatusCode, Value), right: (u16, &str)) {
    let error = &json["error"];
    assert_eq!((status.as_u16(), error["code"].as_str()), (right.0, Some(right.1)), "{json}");
    for field in ["message", "class", "hint", "request_id"] {
        assert!(error[field].is_string(), "no `{field}` in {json}");
    }
}

#[tokio::test]
async fn a_subnet_lives_and_ends_over_http() {
    let api = api().await;
    let body = json!({"zone": "zone-a", "cidr_block": "10.0.0.0/24"});
    let (status, made) = post(&api, "/v1/subnets", body.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/v1/subnets/{}", text(&made, "subnet_id"));
    let got = get(&api, &path).await;
    assert_eq!(got["addresses"], json!({"usable": 251, "leased": 0, "resting": 0, "free": 251}));
    assert_eq!(get(&api, "/v1/subnets").await["subnets"].as_array().map(Vec::len), Some(2));
    refused(post(&api, "/v1/subnets", body).await, (409, "InvalidSubnet.Conflict"));
    let (status, _) = delete(&api, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let again = delete(&api, &path, Value::Null).await;
    refused(again, (404, "InvalidSubnetID.NotFound"));
    let gone = call(&api, Method::GET, &path, Value::Null).await;
    refused(gone, (404, "InvalidSubnetID.NotFound"));
}

#[tokio::test]
async fn a_route_table_takes_and_loses_routes_over_http() {
    let api = api().await;
    let (status, made) = post(&api, "/v1/route-tables", json!({})).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/v1/route-tables/{}", text(&made, "route_table_id"));
    let routes = format!("{path}/routes");
    let route = json!({"destination": "0.0.0.0/0", "target": "igw-1"});
    let (status, table) = post(&api, &routes, route.clone()).await;
    assert_eq!(status, StatusCode::OK, "{table}");
    assert!(table["routes"].as_array().is_some_and(|routes| routes.contains(&route)), "{table}");
    refused(post(&api, &routes, route).await, (409, "RouteAlreadyExists"));
    assert_eq!(get(&api, &path).await, table);
    let gone = json!({"destination": "0.0.0.0/0"});
    let (status, table) = delete(&api, &routes, gone.clone()).await;
    assert_eq!((status, &table), (StatusCode::OK, &made));
    refused(delete(&api, &routes, gone).await, (404, "InvalidRoute.NotFound"));
    let (status, _) = delete(&api, &path, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let all = get(&api, "/v1/route-tables").await;
    let main = text(&all["route_tables"][0], "route_table_id");
    let refusal = delete(&api, &format!("/v1/route-tables/{main}"), Value::Null).await;
    refused(refusal, (409, "CannotDelete"));
}

#[tokio::test]
async fn a_security_group_takes_and_loses_rules_over_http() {
    let api = api().await;
    let (status, made) = post(&api, "/v1/security-groups", json!({"name": "web"})).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = text(&made, "group_id");
    let path = format!("/v1/security-groups/{id}");
    let rules = format!("{path}/rules");
    let rule = json!({
        "direction": "ingress", "protocol": "tcp", "from_port": 443, "to_port": 443,
        "peer": "0.0.0.0/0",
    });
    let (status, group) = post(&api, &rules, rule.clone()).await;
    assert_eq!(status, StatusCode::OK, "{group}");
    assert!(group["rules"].as_array().is_some_and(|rules| rules.contains(&rule)), "{group}");
    refused(post(&api, &rules, rule.clone()).await, (409, "InvalidPermission.Duplicate"));
    let (_, other) = post(&api, "/v1/security-groups", json!({"name": "db"})).await;
    let other = format!("/v1/security-groups/{}/rules", text(&other, "group_id"));
    let names = json!({"direction": "ingress", "protocol": "-1", "peer": id});
    assert_eq!(post(&api, &other, names.clone()).await.0, StatusCode::OK);
    refused(delete(&api, &path, Value::Null).await, (409, "DependencyViolation"));
    assert_eq!(delete(&api, &other, names).await.0, StatusCode::OK);
    assert_eq!(delete(&api, &rules, rule.clone()).await.1["rules"], made["rules"]);
    refused(delete(&api, &rules, rule).await, (404, "InvalidPermission.NotFound"));
    assert_eq!(delete(&api, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    let all = get(&api, "/v1/security-groups").await;
    assert_eq!(all["security_groups"].as_array().map(Vec::len), Some(2), "db and the default");
}

#[tokio::test]
async fn bad_requests_are_told_what_would_be_right() {
    let api = api().await;
    let subnet = |cidr: &str| json!({"zone": "zone-a", "cidr_block": cidr});
    let group = "/v1/security-groups/sg-0123456789abcdef0/rules";
    for (path, body, status, code) in [
        ("/v1/subnets", json!({"zone": "zone-a"}), 400, "MissingParameter"),
        ("/v1/subnets", json!({"zone": "a", "vpc": "b"}), 400, "UnknownParameter"),
        ("/v1/subnets", json!({"zone": 1}), 400, "InvalidParameterValue"),
        ("/v1/subnets", subnet("10.0.0.0/8"), 400, "InvalidSubnet.Range"),
        ("/v1/subnets", subnet("ten"), 400, "InvalidParameterValue"),
        ("/v1/route-tables", json!({"vpc": "b"}), 400, "UnknownParameter"),
        ("/v1/security-groups", json!({"name": "default"}), 409, "InvalidGroup.Duplicate"),
        ("/v1/security-groups", json!({"name": ""}), 400, "InvalidParameterValue"),
        (group, json!({"direction": "in"}), 400, "InvalidParameterValue"),
        (
            group,
            json!({"direction": "egress", "protocol": "-1", "peer": "0.0.0.0/0"}),
            404,
            "InvalidGroup.NotFound",
        ),
    ] {
        refused(post(&api, path, body).await, (status, code));
    }
    for (path, code) in [
        ("/v1/subnets/x", "InvalidSubnetId.Malformed"),
        ("/v1/route-tables/x", "InvalidRouteTableId.Malformed"),
        ("/v1/security-groups/x", "InvalidGroupId.Malformed"),
    ] {
        refused(call(&api, Method::GET, path, Value::Null).await, (400, code));
    }
}

#[tokio::test]
async fn the_document_describes_every_route_and_its_bodies() {
    let api = api().await;
    let document = get(&api, "/openapi.json").await;
    for (path, methods) in [
        ("/v1/subnets", ["get", "post"]),
        ("/v1/subnets/{subnet_id}", ["get", "delete"]),
        ("/v1/route-tables", ["get", "post"]),
        ("/v1/route-tables/{route_table_id}", ["get", "delete"]),
        ("/v1/route-tables/{route_table_id}/routes", ["post", "delete"]),
        ("/v1/security-groups", ["get", "post"]),
        ("/v1/security-groups/{group_id}", ["get", "delete"]),
        ("/v1/security-groups/{group_id}/rules", ["post", "delete"]),
    ] {
        for method in methods {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
        }
    }
    let rule = &document["components"]["schemas"]["Rule"]["properties"];
    for field in ["direction", "protocol", "from_port", "to_port", "peer"] {
        assert!(rule[field].is_object(), "no `{field}` in {rule}");
    }
}
