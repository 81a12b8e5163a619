//! What is not right is refused with its code, the field, and what would be right.

use crate::world::{Answer, Trouble, World};
use axum::http::Method;
use serde_json::{Value, json};

/// Every refusal has all that a client needs.
fn check(answer: &Answer, status: u16, code: &str, field: &str, words: &str, given: &str) {
    let error = &answer.body["error"];
    assert_eq!(answer.status.as_u16(), status, "{given}: {error}");
    assert_eq!(answer.error("code"), code, "{given}: {error}");
    assert_eq!(answer.error("field"), field, "{given}: {error}");
    assert!(answer.error("message").contains(words), "{given}: {error}");
    assert!(!answer.error("hint").is_empty() && error["retry"].is_boolean(), "{given}: {error}");
    let classes = ["capacity", "quota", "throttled", "auth", "conflict", "invalid", "internal"];
    assert!(classes.contains(&answer.error("class")), "{given}: {error}");
    let id = answer.headers.get("x-request-id").expect("every answer has one");
    assert_eq!(id.to_str().expect("a text"), answer.error("request_id"), "{given}");
}

const VALUE: &str = "InvalidParameterValue";
const UNKNOWN: &str = "UnknownParameter";
const MISSING: &str = "MissingParameter";
const TOGETHER: &str = "InvalidParameterCombination";

/// What a launch with these fields more, or others, is refused with: (fields, status, code, field,
/// words of the message).
type Case = (Value, u16, &'static str, &'static str, &'static str);

async fn check_launches(world: &World, cases: Vec<Case>) {
    for (more, status, code, field, words) in cases {
        let mut body = json!({"instance_type": "t3.micro"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        let given: String = more.to_string().chars().take(100).collect();
        check(&world.post("/v1/instances", &body).await, status, code, field, words, &given);
    }
    assert!(world.published().is_empty(), "nothing is half done");
    let list = world.get("/v1/instances").await.with(200);
    assert_eq!(list["instances"], json!([]));
}

#[tokio::test]
async fn a_launch_that_is_not_right_is_told_the_field_and_what_would_be_right() {
    let world = World::new().await;
    let cases = vec![
        (json!({"instance_type": null}), 400, MISSING, "instance_type", "t3.micro"),
        (json!({"instance_type": 3}), 400, VALUE, "instance_type", "string"),
        (
            json!({"instance_type": "t3.enormous"}),
            400,
            "InvalidInstanceType",
            "instance_type",
            "t3.enormous",
        ),
        (json!({"min_count": 2}), 400, UNKNOWN, "min_count", "come later"),
        (json!({"colour": "blue"}), 400, UNKNOWN, "colour", "expected"),
        (json!({"count": 0}), 400, VALUE, "count", "1 to 50"),
        (json!({"count": 51}), 400, VALUE, "count", "1 to 50"),
        (json!({"count": -1}), 400, VALUE, "count", "u32"),
        (json!({"count": 1.5}), 400, VALUE, "count", "u32"),
        (json!({"count": "2"}), 400, VALUE, "count", "u32"),
    ];
    check_launches(&world, cases).await;
}

#[tokio::test]
async fn what_a_launch_names_has_to_be_there_and_to_fit() {
    let world = World::new().await;
    let cases = vec![
        (
            json!({"image_id": "ami-00000000000000000"}),
            400,
            "InvalidAMIID.NotFound",
            "image_id",
            "ami-",
        ),
        (
            json!({"instance_type": "t4g.micro", "image_id": "ami-0a120230000000864"}),
            400,
            TOGETHER,
            "image_id",
            "arm64",
        ),
        (json!({"zone": ""}), 400, VALUE, "zone", ""),
        (json!({"zone": "a\u{0}b"}), 400, VALUE, "zone", ""),
        (json!({"zone": "@hosts/x"}), 400, VALUE, "zone", ""),
        (
            json!({"subnet_id": "subnet-00000000000000000"}),
            400,
            "InvalidSubnetID.NotFound",
            "subnet_id",
            "subnet-",
        ),
        (json!({"subnet_id": "s\u{0}"}), 400, "InvalidSubnetId.Malformed", "subnet_id", "17"),
        (json!({"private_ip": "172.31.0.300"}), 400, VALUE, "private_ip", "IPv4"),
        (json!({"private_ip": "172.31.0.30"}), 400, TOGETHER, "private_ip", "subnet_id"),
        (
            json!({"security_group_ids": ["sg-00000000000000000"]}),
            400,
            "InvalidGroup.NotFound",
            "security_group_ids",
            "sg-",
        ),
        (json!({"security_group_ids": "sg-1"}), 400, VALUE, "security_group_ids", "sequence"),
        (json!({"volumes": [{"size_gib": 0}]}), 400, VALUE, "volumes", "1 to"),
        (
            json!({"volumes": [{"size_gib": 8, "volume_type": "gp9"}]}),
            400,
            "UnknownVolumeType",
            "volumes",
            "gp3",
        ),
        (
            json!({"volumes": [{"size_gib": 8, "sice": 8}]}),
            400,
            UNKNOWN,
            "volumes[0].sice",
            "expected",
        ),
        (json!({"volumes": [{}]}), 400, MISSING, "volumes", "size_gib"),
    ];
    check_launches(&world, cases).await;
}

#[tokio::test]
async fn texts_of_a_launch_have_their_limits() {
    let world = World::new().await;
    let long = "x".repeat(65);
    let tags: Value =
        (0..51).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases = vec![
        (json!({"tags": {"": "v"}}), 400, VALUE, "tags", "1 to 128"),
        (json!({"tags": {"aws:x": "v"}}), 400, VALUE, "tags", "aws:"),
        (json!({"tags": {"a": 1}}), 400, VALUE, "tags.a", "string"),
        (json!({"tags": tags}), 400, "TagLimitExceeded", "tags", "50"),
        (json!({"user_data": "x".repeat(16 * 1024 + 1)}), 400, VALUE, "user_data", "16384"),
        (json!({"client_token": ""}), 400, VALUE, "client_token", "1 to 64"),
        (json!({"client_token": long}), 400, VALUE, "client_token", "1 to 64"),
        (json!({"client_token": "tökén"}), 400, VALUE, "client_token", "ASCII"),
        (json!({"strategy": "random"}), 400, VALUE, "strategy", "spread"),
        (json!({"dry_run": "yes"}), 400, VALUE, "dry_run", "boolean"),
        (json!({"dry_run": true}), 412, "DryRunOperation", "", ""),
    ];
    check_launches(&world, cases).await;
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let world = World::new().await;
    for (body, status, code) in [
        (b"".to_vec(), 400, "MalformedBody"),
        (b"{".to_vec(), 400, "MalformedBody"),
        (b"null".to_vec(), 400, "MalformedBody"),
        (b"[]".to_vec(), 400, "MalformedBody"),
        (br#"["t3.micro"]"#.to_vec(), 400, "MalformedBody"),
        (br#""t3.micro""#.to_vec(), 400, "MalformedBody"),
        (br#"{"instance_type":"t3.micro"} {}"#.to_vec(), 400, "MalformedBody"),
        (b"{\"instance_type\":\"\xff\"}".to_vec(), 400, "MalformedBody"),
        (vec![b' '; 64 * 1024 + 1], 413, "RequestTooLarge"),
    ] {
        let given = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let answer = world.send(Method::POST, "/v1/instances", body).await;
        check(&answer, status, code, "", "", &given);
    }
    let deep = format!(r#"{{"tags":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    let answer = world.send(Method::POST, "/v1/instances", deep.into_bytes()).await;
    assert_eq!(answer.status.as_u16(), 400);
    assert!(world.published().is_empty());
}

#[tokio::test]
async fn paths_methods_and_queries_that_are_not_right_are_refused_in_the_same_form() {
    let world = World::new().await;
    let none = "i-0000000000000000f";
    for (method, path, status, code, field) in [
        ("GET", "/v1/nothing".to_owned(), 404, "NotFound", ""),
        ("PATCH", "/v1/instances".to_owned(), 405, "MethodNotAllowed", ""),
        ("GET", "/v1/instances/i-1".to_owned(), 400, "InvalidInstanceID.Malformed", "instance_id"),
        ("GET", "/v1/instances/%ff".to_owned(), 400, "MalformedPath", ""),
        ("GET", format!("/v1/instances/{none}"), 404, "InvalidInstanceID.NotFound", "instance_id"),
        (
            "GET",
            format!("/v1/instances/{none}/events"),
            404,
            "InvalidInstanceID.NotFound",
            "instance_id",
        ),
        (
            "DELETE",
            format!("/v1/instances/{none}"),
            404,
            "InvalidInstanceID.NotFound",
            "instance_id",
        ),
        ("GET", "/v1/instances?limit=0".to_owned(), 400, VALUE, "limit"),
        ("GET", "/v1/instances?limit=101".to_owned(), 400, VALUE, "limit"),
        ("GET", "/v1/instances?limit=x".to_owned(), 400, VALUE, "limit"),
        ("GET", "/v1/instances?state=broken".to_owned(), 400, VALUE, "state"),
        ("GET", "/v1/instances?colour=x".to_owned(), 400, UNKNOWN, "colour"),
        ("GET", "/v1/instances?next=zz".to_owned(), 400, "InvalidPaginationToken", "next"),
        ("GET", "/v1/instances?next=00ff".to_owned(), 400, "InvalidPaginationToken", "next"),
        ("GET", "/v1/instances?next=0000".to_owned(), 400, "InvalidPaginationToken", "next"),
        ("GET", "/v1/hosts?next=%00".to_owned(), 400, "InvalidPaginationToken", "next"),
        ("GET", "/v1/hosts?limit=0".to_owned(), 400, VALUE, "limit"),
        ("GET", "/v1/hosts/-x".to_owned(), 400, "InvalidHostID.Malformed", "host_id"),
        ("GET", "/v1/hosts/none".to_owned(), 404, "InvalidHostID.NotFound", "host_id"),
        ("GET", "/v1/hosts/none/assignments".to_owned(), 404, "InvalidHostID.NotFound", "host_id"),
        ("GET", "/v1/hosts/host-1/assignments?after=-1".to_owned(), 400, VALUE, "after"),
        ("GET", "/v1/dead-letters/none".to_owned(), 404, "InvalidDeadLetterID.NotFound", ""),
        (
            "POST",
            "/v1/dead-letters/none/redrive".to_owned(),
            404,
            "InvalidDeadLetterID.NotFound",
            "",
        ),
    ] {
        let method: Method = method.parse().expect("a method");
        let answer = world.send(method, &path, vec![]).await;
        check(&answer, status, code, field, "", &path);
    }
}

#[tokio::test]
async fn the_document_describes_every_path_and_nothing_that_it_names_is_missing() {
    let world = World::empty();
    let document = world.get("/openapi.json").await.with(200);
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
    let paths: Vec<&str> =
        document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    let described = [
        "/health",
        "/v1/agents/{host_id}/assignments",
        "/v1/agents/{host_id}/enrolment",
        "/v1/agents/{host_id}/instances/{tenant}/{instance_id}",
        "/v1/agents/{host_id}/instances/{tenant}/{instance_id}/console",
        "/v1/agents/{host_id}/key",
        "/v1/agents/{host_id}/registration",
        "/v1/agents/{host_id}/reports",
        "/v1/agents/{host_id}/volumes",
        "/v1/breakers",
        "/v1/breakers/{function}",
        "/v1/capacity",
        "/v1/dead-letters",
        "/v1/dead-letters/purge",
        "/v1/dead-letters/redrive",
        "/v1/dead-letters/{id}",
        "/v1/dead-letters/{id}/redrive",
        "/v1/enrolments",
        "/v1/hosts",
        "/v1/hosts/{host_id}",
        "/v1/hosts/{host_id}/assignments",
        "/v1/hosts/{host_id}/key",
        "/v1/hosts/{host_id}/reports",
        "/v1/images",
        "/v1/instance-types",
        "/v1/instances",
        "/v1/instances/{instance_id}",
        "/v1/instances/{instance_id}/console",
        "/v1/instances/{instance_id}/events",
        "/v1/instances/{instance_id}/why",
        "/v1/ledger",
        "/v1/ledger/entries",
        "/v1/roles",
        "/v1/route-tables",
        "/v1/security-groups",
        "/v1/security-groups/{group_id}/rules",
        "/v1/subnets",
    ];
    let missing: Vec<_> = described.iter().filter(|path| !paths.contains(path)).collect();
    assert!(missing.is_empty(), "{missing:?} are not described");
    let mut named = Vec::new();
    references(&document, &mut named);
    assert!(!named.is_empty());
    for name in named {
        let pointer = name.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{name} is named, and not there");
    }
}

/// All that the document points to by `$ref`.
fn references<'d>(value: &'d Value, found: &mut Vec<&'d str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn whatever_the_store_cannot_do_is_503_and_may_be_repeated() {
    let world = World::new().await;
    let id = world.launch(&json!({"instance_type": "t3.micro"})).await.remove(0);
    world.published();
    world.store_has(Trouble::Down);
    let launch = json!({"instance_type": "t3.micro"});
    let answers = [
        world.post("/v1/instances", &launch).await,
        world.get("/v1/instances").await,
        world.get(&format!("/v1/instances/{id}")).await,
        world.delete(&format!("/v1/instances/{id}")).await,
        world.get("/v1/hosts").await,
        world.get("/v1/hosts/host-1/assignments").await,
        world.put("/v1/hosts/host-1", &json!({"state": "draining"})).await,
        world.get("/v1/capacity").await,
        world.get("/v1/subnets").await,
    ];
    for answer in answers {
        check(&answer, 503, "ServiceUnavailable", "", "", "the store is down");
        assert_eq!(answer.body["error"]["retry"], true);
        let told = answer.body.to_string();
        assert!(!told.contains("the disk"), "what a store says is for the log: {told}");
    }
    world.store_has(Trouble::None);
    assert!(world.published().is_empty());
    world.delete(&format!("/v1/instances/{id}")).await.with(200);
}

#[tokio::test]
async fn a_replay_where_nobody_keeps_an_archive_is_told_where_there_is_one() {
    let world = World::new().await;
    let answer = world.post("/v1/replays", &json!({})).await;
    check(&answer, 400, "UnsupportedOperation", "", "eventplane replay --stack", "no archive");
}
