//! Letters by the many, against a queue that is as awkward as SQS may be: it hands out the newest
//! first, and whatever is delivered fails again at once.

use super::{Queues, SqsDeadLetters};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Json, Router};
use eventplane_domain::Millis;
use eventplane_engine::DeadLetters;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A letter: when it was sent, and whether it is hidden.
struct Letter {
    sent: i64,
    is_hidden: bool,
}

/// The queue of dead letters: its letters by their numbers, none where one has gone.
#[derive(Default)]
struct Queue {
    letters: Vec<Option<Letter>>,
    delivered: usize,
}

impl Queue {
    fn put(&mut self, sent: i64) {
        self.letters.push(Some(Letter { sent, is_hidden: false }));
    }

    fn receive(&mut self, most: usize) -> Value {
        let visible = |(_, letter): &(usize, &mut Letter)| !letter.is_hidden;
        let all = self.letters.iter_mut().enumerate().rev();
        let all = all.filter_map(|(n, letter)| letter.as_mut().map(|letter| (n, letter)));
        let messages = all.filter(visible).take(most).map(|(n, letter)| {
            letter.is_hidden = true;
            json!({
                "MessageId": n.to_string(), "ReceiptHandle": n.to_string(), "Body": "{}",
                "Attributes": { "SentTimestamp": letter.sent.to_string() },
            })
        });
        json!({ "Messages": messages.collect::<Vec<_>>() })
    }

    fn answer(&mut self, action: &str, asked: &Value) -> Value {
        if action == "ReceiveMessage" {
            let most = asked["MaxNumberOfMessages"].as_u64().expect("a number");
            return self.receive(usize::try_from(most).expect("ten at most"));
        }
        let mut done = Vec::new();
        for entry in asked["Entries"].as_array().expect("a batch") {
            let n = entry["ReceiptHandle"].as_str().and_then(|n| n.parse::<usize>().ok());
            match (action, n) {
                ("SendMessageBatch", _) => {
                    self.delivered += 1;
                    self.put(LATER.0);
                }
                ("DeleteMessageBatch", Some(n)) => self.letters[n] = None,
                ("ChangeMessageVisibilityBatch", Some(n)) => {
                    self.letters[n].as_mut().expect("it is there").is_hidden = false;
                }
                other => panic!("{other:?}"),
            }
            done.push(json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "5" }));
        }
        json!({ "Successful": done, "Failed": [] })
    }
}

type Shared = Arc<Mutex<Queue>>;

async fn answer(
    State(queue): State<Shared>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> Json<Value> {
    let target = headers["x-amz-target"].to_str().expect("text");
    let action = target.trim_start_matches("AmazonSQS.");
    Json(queue.lock().expect("not poisoned").answer(action, &asked))
}

const NOW: Millis = Millis(1_000);
const LATER: Millis = Millis(2_000);

/// Letters of storage: so many of now, and so many that came later.
async fn letters(now: usize, later: usize) -> (SqsDeadLetters, Shared) {
    let queue = Shared::default();
    for sent in std::iter::repeat_n(NOW, now).chain(std::iter::repeat_n(LATER, later)) {
        queue.lock().expect("not poisoned").put(sent.0);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let layer = axum::middleware::from_fn(as_json);
    let router = Router::new().fallback(answer).layer(layer).with_state(queue.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("id", "key", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&endpoint);
    let queues = Queues {
        function: "storage".to_owned(),
        inbox: format!("{endpoint}/0/inbox"),
        dead_letters: format!("{endpoint}/0/dead"),
    };
    (SqsDeadLetters::new(Client::from_conf(config.build()), vec![queues]), queue)
}

/// AWS's JSON has a type of its own.
async fn as_json(
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let json = axum::http::HeaderValue::from_static("application/json");
    request.headers_mut().insert(axum::http::header::CONTENT_TYPE, json);
    next.run(request).await
}

/// How many letters are (of now, later), and how many of them are hidden.
fn left(queue: &Shared) -> (usize, usize, usize) {
    let queue = queue.lock().expect("not poisoned");
    let count = |is: fn(&Letter) -> bool| {
        queue.letters.iter().flatten().filter(|letter| is(letter)).count()
    };
    let later = count(|letter| letter.sent == LATER.0);
    (count(|letter| letter.sent == NOW.0), later, count(|letter| letter.is_hidden))
}

#[tokio::test]
async fn letters_that_fail_again_at_once_do_not_end_a_redrive_early() {
    let (letters, queue) = letters(35, 0).await;
    assert_eq!(letters.redrive_all(None, NOW, 1_000).await.expect("redriven"), 35);
    assert_eq!(queue.lock().expect("not poisoned").delivered, 35, "each once");
    assert_eq!(left(&queue), (0, 35, 0), "what came later stays, and is seen");
    assert_eq!(letters.redrive_all(None, NOW, 1_000).await.expect("redriven"), 0);
    assert_eq!(left(&queue), (0, 35, 0));
}

#[tokio::test]
async fn a_redrive_takes_no_more_than_it_may() {
    let (letters, queue) = letters(35, 0).await;
    for (limit, before) in [(12, 23), (12, 11), (12, 0)] {
        let redriven = letters.redrive_all(Some("storage"), NOW, limit).await.expect("redriven");
        assert!(redriven <= limit);
        assert_eq!(left(&queue), (before, 35 - before, 0));
    }
}

#[tokio::test]
async fn a_purge_leaves_what_came_later() {
    let (letters, queue) = letters(25, 25).await;
    assert_eq!(letters.purge("network", NOW, 1_000).await.expect("purged"), 0, "not its own");
    assert_eq!(letters.purge("storage", NOW, 20).await.expect("purged"), 20);
    assert_eq!(letters.purge("storage", NOW, 1_000).await.expect("purged"), 5);
    assert_eq!(left(&queue), (0, 25, 0));
    assert_eq!(queue.lock().expect("not poisoned").delivered, 0);
}
