//! `replay --stack` against a service that remembers what was asked of it, and a real plane.

use super::*;
use aws_config::Region;
use aws_credential_types::Credentials;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use eventplane_tests::site::Site;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

const RULE: &str = "arn:aws:events:us-east-1:1:rule/plane/plane-shadow";
const BUS: &str = "arn:aws:events:us-east-1:1:event-bus/plane";

/// An account with a stack: what is in its shadow's inbox, and what was asked.
#[derive(Default)]
struct Stub {
    /// Messages that a replay brings, in batches; one of another replay is there already.
    batches: VecDeque<Vec<Value>>,
    state: &'static str,
    has_archive: bool,
    outputs: &'static [(&'static str, &'static str)],
    started: Vec<Value>,
    deleted: usize,
}

type Shared = Arc<Mutex<Stub>>;

const OUTPUTS: &[(&str, &str)] =
    &[("BusArn", BUS), ("ShadowRuleArn", RULE), ("ShadowInboxUrl", "http://queue/shadow")];

fn stub(batches: Vec<Vec<Value>>) -> Shared {
    let (state, outputs) = ("COMPLETED", OUTPUTS);
    Arc::new(Mutex::new(Stub {
        batches: batches.into(),
        state,
        has_archive: true,
        outputs,
        ..Stub::default()
    }))
}

fn describe_stacks(outputs: &[(&str, &str)]) -> String {
    let member = |(name, value): &(&str, &str)| {
        format!("<member><OutputKey>{name}</OutputKey><OutputValue>{value}</OutputValue></member>")
    };
    let outputs: String = outputs.iter().map(member).collect();
    format!(
        "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>plane</StackName>\
         <StackStatus>CREATE_COMPLETE</StackStatus><CreationTime>2026-11-01T00:00:00Z</CreationTime>\
         <Outputs>{outputs}</Outputs></member></Stacks></DescribeStacksResult>\
         </DescribeStacksResponse>"
    )
}

async fn answer(
    State(stub): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mut stub = stub.lock().unwrap();
    let target = headers.get("x-amz-target").map(|of| of.to_str().unwrap().to_owned());
    let Some(target) = target else { return (StatusCode::OK, describe_stacks(stub.outputs)) };
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let answer = match target.rsplit('.').next().unwrap() {
        "ListArchives" => {
            assert_eq!(asked["EventSourceArn"], BUS);
            let archive = json!({ "ArchiveName": "kept", "State": "ENABLED" });
            json!({ "Archives": if stub.has_archive { vec![archive] } else { vec![] } })
        }
        "DescribeArchive" => {
            json!({ "ArchiveArn": format!("arn:{}", asked["ArchiveName"].as_str().unwrap()) })
        }
        "StartReplay" => {
            stub.started.push(asked);
            json!({ "State": "STARTING" })
        }
        "DescribeReplay" => json!({ "State": stub.state, "StateReason": "told to" }),
        "ReceiveMessage" => {
            let name = stub.started[0]["ReplayName"].clone();
            let batch = stub.batches.pop_front().unwrap_or_default().into_iter();
            let message = |(n, mut body): (usize, Value)| {
                if body["replay-name"].is_null() {
                    body["replay-name"] = name.clone();
                }
                json!({ "Body": body.to_string(), "ReceiptHandle": n.to_string() })
            };
            json!({ "Messages": batch.enumerate().map(message).collect::<Vec<_>>() })
        }
        "DeleteMessageBatch" => {
            stub.deleted += asked["Entries"].as_array().unwrap().len();
            json!({ "Successful": [], "Failed": [] })
        }
        other => panic!("{other} was not expected"),
    };
    (StatusCode::OK, answer.to_string())
}

async fn account(stub: &Shared) -> Account {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(stub.clone());
    tokio::spawn(axum::serve(listener, router).into_future());
    let config = crate::sign::account()
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("AKID", "secret", None, None, "test"))
        .endpoint_url(endpoint);
    Account::new(&config.load().await)
}

fn asked(function: Option<&str>) -> Replay {
    Replay {
        from: Some("2026-11-25T08:00:00Z".to_owned()),
        to: Some("2026-11-25T09:00:00Z".to_owned()),
        instance: None,
        function: function.map(str::to_owned),
        stack: Some("plane".to_owned()),
    }
}

async fn replay(site: &Site, stub: &Shared, asked: &Replay) -> Result<Value, Problem> {
    let client = Client::new(&format!("http://{}", site.plane.address())).unwrap();
    let mut screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
    account(stub).await.replay(&client, &mut screen, "plane", asked).await
}

/// A sample as it comes out of an archive.
fn sample(name: &str, time: i64) -> Value {
    let path = format!("{}/../events/samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut event: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    event["id"] = json!(format!("{name}-{time}"));
    event["detail"]["metadata"]["time"] = json!(time);
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_to_the_shadows_rule_alone_and_what_comes_is_rehearsed_in_order() {
    let site = Site::with_hosts(1).await;
    let mut of_another = sample("InstanceRequested", 0);
    of_another["replay-name"] = json!("monday");
    let twice = sample("CapacityAllocated", 2);
    let batches =
        vec![vec![of_another, twice.clone()], vec![], vec![twice, sample("InstanceRequested", 1)]];
    let stub = stub(batches);
    let replayed = replay(&site, &stub, &asked(None)).await.unwrap();
    let events = replayed["events"].as_array().unwrap();
    let brief = |event: &Value| {
        let functions = event["functions"].as_array().unwrap().iter();
        let names = functions.map(|of| of["function"].as_str().unwrap().to_owned());
        (event["event"].as_str().unwrap().to_owned(), names.collect::<Vec<_>>().join(" "))
    };
    let expected = [
        ("InstanceRequested".to_owned(), "capacity handoff".to_owned()),
        ("CapacityAllocated".to_owned(), "network security storage".to_owned()),
    ];
    assert_eq!(events.iter().map(brief).collect::<Vec<_>>(), expected, "{replayed:#}");
    let counts = replayed["summary"].as_object().unwrap().values();
    assert_eq!(counts.map(|many| many.as_u64().unwrap()).sum::<u64>(), 5);
    {
        let stub = stub.lock().unwrap();
        assert_eq!(stub.deleted, 4, "what was received is gone from the queue");
        let start = &stub.started[0];
        assert_eq!(start["Destination"], json!({ "Arn": BUS, "FilterArns": [RULE] }));
        assert_eq!(start["EventSourceArn"], "arn:kept");
        assert_eq!(start["EventStartTime"].as_f64(), Some(1_795_593_600.0));
    }
    assert_eq!(site.get("/v1/instances").await["instances"], json!([]), "nothing was done");
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_rehearsed_in_as_many_requests_as_it_takes() {
    let site = Site::with_hosts(1).await;
    let all = (0..120).map(|n| sample("InstanceRequested", n)).collect::<Vec<_>>();
    let stub = stub(all.chunks(10).map(<[_]>::to_vec).collect());
    let replayed = replay(&site, &stub, &asked(Some("capacity"))).await.unwrap();
    let events = replayed["events"].as_array().unwrap();
    assert_eq!(events.len(), 120);
    assert!(events.iter().all(|event| event["functions"][0]["function"] == "capacity"));
    site.plane.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_cannot_be_says_why() {
    let site = Site::with_hosts(1).await;
    let change = |change: fn(&mut Stub)| {
        let stub = stub(vec![]);
        change(&mut stub.lock().unwrap());
        stub
    };
    for (stub, why) in [
        (change(|stub| stub.outputs = &OUTPUTS[..1]), "no output ShadowRuleArn"),
        (change(|stub| stub.has_archive = false), "no archive that is enabled"),
        (change(|stub| stub.state = "FAILED"), "told to"),
    ] {
        let problem = replay(&site, &stub, &asked(None)).await.unwrap_err();
        assert!(problem.exit_code() == 1 && problem.to_string().contains(why), "{problem}");
    }
    for (from, why) in
        [("yesterday", "2026-11-25T08:30:00Z"), ("2027-01-01T00:00:00Z", "after --to")]
    {
        let asked = Replay { from: Some(from.to_owned()), ..asked(None) };
        let problem = replay(&site, &stub(vec![]), &asked).await.unwrap_err();
        assert!(problem.exit_code() == 2 && problem.to_string().contains(why), "{problem}");
    }
    site.plane.shutdown().await;
}
