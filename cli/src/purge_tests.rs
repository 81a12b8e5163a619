//! `purge` against a service that remembers what was asked of it.

use super::with_aws::run;
use crate::args::Purge;
use crate::kept::Account;
use crate::problem::Problem;
use crate::show::Screen;
use aws_config::Region;
use aws_credential_types::Credentials;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::{Arc, Mutex};

/// An account: tables by whether they are protected, and whether its key goes.
#[derive(Default)]
struct Stub {
    stack: Option<&'static str>,
    tables: BTreeMap<String, bool>,
    key_goes: bool,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Stub>>;

fn fails(code: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, json!({ "__type": code, "message": "no" }).to_string())
}

fn describe_stacks(stack: Option<&str>) -> (StatusCode, String) {
    match stack {
        Some(status) => {
            let member = format!(
                "<member><StackName>plane</StackName><StackStatus>{status}</StackStatus>\
                 <CreationTime>2026-11-01T00:00:00Z</CreationTime></member>"
            );
            let result = format!(
                "<DescribeStacksResponse><DescribeStacksResult><Stacks>{member}</Stacks>\
                 </DescribeStacksResult></DescribeStacksResponse>"
            );
            (StatusCode::OK, result)
        }
        None => {
            let error = "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code>\
                         <Message>Stack with id plane does not exist</Message></Error>\
                         <RequestId>r</RequestId></ErrorResponse>";
            (StatusCode::BAD_REQUEST, error.to_owned())
        }
    }
}

async fn answer(
    State(stub): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let mut stub = stub.lock().unwrap();
    let Some(target) = headers.get("x-amz-target") else { return describe_stacks(stub.stack) };
    let target = target.to_str().unwrap().rsplit('.').next().unwrap().to_owned();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let name = asked["TableName"].as_str().unwrap_or_default().to_owned();
    let tags = |of: &str, key: &str, value: &str| {
        let stack = if of.contains("other") { "other" } else { "plane" };
        json!([{ key: "eventplane:stack", value: stack }])
    };
    let ok = |value: Value| (StatusCode::OK, value.to_string());
    let changes = ["UpdateTable", "DeleteTable", "ScheduleKeyDeletion"];
    if changes.contains(&target.as_str()) {
        stub.asked.push(format!("{target} {name}"));
    }
    match target.as_str() {
        "ListTables" => ok(json!({ "TableNames": stub.tables.keys().collect::<Vec<_>>() })),
        "DescribeTable" => match stub.tables.get(&name) {
            Some(protected) => ok(json!({ "Table": { "TableArn": name, "ItemCount": 7,
                "TableSizeBytes": 4096, "DeletionProtectionEnabled": protected,
                "TableStatus": "ACTIVE" } })),
            None => fails("ResourceNotFoundException"),
        },
        "ListTagsOfResource" => {
            let arn = asked["ResourceArn"].as_str().unwrap();
            ok(json!({ "Tags": tags(arn, "Key", "Value") }))
        }
        "UpdateTable" => {
            stub.tables.insert(name, false);
            ok(json!({}))
        }
        "DeleteTable" if stub.tables[&name] => fails("ValidationException"),
        "DeleteTable" => {
            stub.tables.remove(&name);
            ok(json!({}))
        }
        "ListKeys" => ok(json!({ "Keys": [{ "KeyId": "mine" }, { "KeyId": "other" },
            { "KeyId": "closed" }] })),
        "ListResourceTags" if asked["KeyId"] == "closed" => fails("AccessDeniedException"),
        "ListResourceTags" => {
            ok(json!({ "Tags": tags(asked["KeyId"].as_str().unwrap(), "TagKey", "TagValue") }))
        }
        "DescribeKey" => {
            let state = if stub.key_goes { "PendingDeletion" } else { "Enabled" };
            ok(json!({ "KeyMetadata": { "KeyId": "mine", "KeyState": state,
                "KeyManager": "CUSTOMER", "DeletionDate": 1_798_761_600 } }))
        }
        "ScheduleKeyDeletion" => {
            stub.key_goes = true;
            ok(json!({ "KeyId": "mine", "DeletionDate": 1_798_761_600 }))
        }
        other => panic!("{other} was not expected"),
    }
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
    Account::new(&config.load().await).unwrap()
}

fn stub(stack: Option<&'static str>) -> Shared {
    let tables = [("plane-a", true), ("plane-b", false), ("other-a", true)];
    let tables = tables.map(|(name, protected)| (name.to_owned(), protected)).into();
    Arc::new(Mutex::new(Stub { stack, tables, ..Stub::default() }))
}

/// Purges with this typed in, or with nobody there.
async fn purge(
    stub: &Shared,
    yes_delete: Option<&str>,
    typed: Option<&str>,
) -> Result<(), Problem> {
    let account = account(stub).await;
    let yes_delete = yes_delete.map(str::to_owned);
    let asked = Purge { stack: "plane".to_owned(), key_days: 7, yes_delete };
    let mut screen = Screen::pipes(Box::new(std::io::sink()), Box::new(std::io::sink()));
    let mut typed = typed.map(str::as_bytes);
    let typed = typed.as_mut().map(|typed| typed as &mut dyn BufRead);
    run(&account, &asked, typed, &mut screen).await
}

#[tokio::test]
async fn what_carries_the_stacks_name_goes_and_nothing_else_and_once_more_does_no_harm() {
    let stub = stub(None);
    purge(&stub, None, Some("plane\n")).await.unwrap();
    let changes = [
        "UpdateTable plane-a",
        "DeleteTable plane-a",
        "DeleteTable plane-b",
        "ScheduleKeyDeletion ",
    ];
    assert_eq!(stub.lock().unwrap().asked, changes);
    assert_eq!(stub.lock().unwrap().tables.keys().collect::<Vec<_>>(), ["other-a"]);
    // Nothing is left, so nobody is asked.
    purge(&stub, None, None).await.unwrap();
    assert_eq!(stub.lock().unwrap().asked.len(), changes.len());
}

#[tokio::test]
async fn nothing_goes_unless_the_name_is_given_once_more() {
    let cases = [
        (None, None, "--yes-delete plane"),
        (None, Some("yes\n"), "`yes` is not `plane`"),
        (None, Some(""), "`` is not `plane`"),
        (Some("other"), Some("plane\n"), "`other` is not `plane`"),
    ];
    for (given, typed, why) in cases {
        let stub = stub(None);
        let problem = purge(&stub, given, typed).await.unwrap_err();
        assert_eq!(problem.exit_code(), 2);
        assert!(problem.to_string().contains(why), "{problem}");
        assert_eq!(stub.lock().unwrap().asked, Vec::<String>::new());
    }
    let stub = stub(None);
    purge(&stub, Some("plane"), None).await.unwrap();
    assert_eq!(stub.lock().unwrap().asked.len(), 4);
}

#[tokio::test]
async fn a_stack_that_stands_keeps_its_data() {
    for (status, why) in [
        ("CREATE_COMPLETE", "sam delete --stack-name plane"),
        ("DELETE_FAILED", "sam delete --stack-name plane"),
        ("DELETE_IN_PROGRESS", "when it is gone"),
    ] {
        let stub = stub(Some(status));
        let problem = purge(&stub, Some("plane"), None).await.unwrap_err();
        assert_eq!(problem.exit_code(), 1);
        assert!(problem.to_string().contains(why), "{problem}");
        assert_eq!(stub.lock().unwrap().asked, Vec::<String>::new());
    }
}
