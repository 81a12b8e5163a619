//! One instance, asked by HTTP; and what stands where.

use super::*;
use axum::body::Body;
use axum::http::Request;
use eventplane_domain::Millis;
use eventplane_engine::{Clock, OsChance};
use eventplane_keys::DataKey;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::task::JoinHandle;

const NOW: Millis = Millis(1_795_514_400_000);
const ID: &str = "i-01a20bb48a8000001";
const OTHER_ID: &str = "i-01a20bb48a8000002";
const DOCUMENT: &str = r#"{"instanceId":"i-01a20bb48a8000001","version":"2026-11-24"}"#;

/// An instance with everything that one can have.
fn facts(id: &str) -> InstanceFacts {
    let volume = |n: u32, device: &str| {
        json!({"volume_id": format!("vol-{n}"), "pool": "p", "key_id": "k", "spec": {
            "device": device, "volume_type": "gp3", "size_gib": 8, "iops": 3000,
            "delete_on_termination": true}})
    };
    serde_json::from_value(json!({
        "tenant": "default",
        "instance_id": id,
        "launch": {
            "spec": {"reservation_id": "r-7", "launch_index": 3, "instance_type": "t3.micro",
                "vcpus": 2, "memory_mib": 1024, "network_mbps": 64, "image_id": "ami-5",
                "volumes": []},
            "placement": {"host": "host-a", "zone": "zone-a", "rack": "r1"},
            "network": {"interface_id": "eni-1", "private_ip": "172.31.0.9",
                "mac": "02:00:00:00:00:09", "subnet_id": "subnet-1", "cidr": "172.31.0.0/20",
                "gateway": "172.31.0.1", "security_group_ids": ["sg-1", "sg-2"], "rules": [],
                "routes": []},
            "volumes": [volume(1, "/dev/sda1"), volume(2, "/dev/sdf"), volume(3, "/dev/sdg")],
            "identity": {"credentials_version": 1, "signing_key_id": "key-1"},
        },
        "details": {
            "tags": {"Name": "web 1", "team:a": "b", "no good": "x", "a/b": "x", "_index": "x"},
            "user_data": "#!/bin/sh\necho hello\n",
            "document": {"document": DOCUMENT, "signature": "00ff10", "key_id": "key-1"},
            "keys": [{"key_id": "key-1", "algorithm": "Ed25519", "public_key": "ab"}],
            "credentials": {"role": "web", "access_key_id": "EPKA1",
                "secret_access_key": "hush", "token": "t0ken", "updated_at": NOW.0 - 3_600_000,
                "expires_at": NOW.0 + 60_000},
        },
    }))
    .expect("facts")
}

fn said(path: &str) -> Result<String, Missing> {
    content(&facts(ID), path, NOW)
}

#[test]
fn every_category_stands_where_ec2_has_it() {
    let mac = "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:09";
    let cases = [
        ("/latest/meta-data/ami-id", "ami-5"),
        ("/latest/meta-data/ami-launch-index", "3"),
        ("/latest/meta-data/block-device-mapping/ami", "/dev/sda1"),
        ("/latest/meta-data/block-device-mapping/ebs2", "/dev/sdg"),
        ("/latest/meta-data/block-device-mapping/root", "/dev/sda1"),
        ("/latest/meta-data/hostname", "ip-172-31-0-9.ec2.internal"),
        ("/latest/meta-data/instance-id", ID),
        ("/latest/meta-data/instance-id/", ID),
        ("/latest/meta-data/instance-type", "t3.micro"),
        ("/latest/meta-data/local-hostname", "ip-172-31-0-9.ec2.internal"),
        ("/latest/meta-data/local-ipv4", "172.31.0.9"),
        ("/latest/meta-data/mac", "02:00:00:00:00:09"),
        (&format!("{mac}/device-number"), "0"),
        (&format!("{mac}/interface-id"), "eni-1"),
        (&format!("{mac}/local-hostname"), "ip-172-31-0-9.ec2.internal"),
        (&format!("{mac}/local-ipv4s"), "172.31.0.9"),
        (&format!("{mac}/mac"), "02:00:00:00:00:09"),
        (&format!("{mac}/owner-id"), "default"),
        (&format!("{mac}/security-group-ids"), "sg-1\nsg-2"),
        (&format!("{mac}/subnet-id"), "subnet-1"),
        (&format!("{mac}/subnet-ipv4-cidr-block"), "172.31.0.0/20"),
        ("/latest/meta-data/placement/availability-zone", "zone-a"),
        ("/latest/meta-data/placement/host-id", "host-a"),
        ("/latest/meta-data/reservation-id", "r-7"),
        ("/latest/meta-data/security-groups", "sg-1\nsg-2"),
        ("/latest/meta-data/tags/instance/Name", "web 1"),
        ("/latest/meta-data/tags/instance/team:a", "b"),
        ("/latest/user-data", "#!/bin/sh\necho hello\n"),
        ("/latest/dynamic/instance-identity/document", DOCUMENT),
        ("/latest/dynamic/instance-identity/key-id", "key-1"),
        ("/latest/dynamic/instance-identity/signature", "AP8Q"),
        ("/2021-03-23/meta-data/instance-id", ID),
    ];
    for (path, right) in cases {
        assert_eq!(said(path).as_deref(), Ok(right), "{path}");
    }
}

#[test]
fn lists_name_what_is_in_them_and_what_is_a_list_itself() {
    let mac = "/latest/meta-data/network/interfaces/macs/";
    let cases = [
        ("/", "1.0\n2009-04-04\n2016-09-02\n2018-09-24\n2021-03-23\nlatest"),
        ("/latest", "dynamic/\nmeta-data/\nuser-data"),
        ("/1.0/", "dynamic/\nmeta-data/\nuser-data"),
        ("/latest/dynamic/instance-identity", "document\nkey-id\nkeys\nsignature"),
        ("/latest/meta-data/block-device-mapping/", "ami\nebs1\nebs2\nroot"),
        ("/latest/meta-data/iam/security-credentials/", "web"),
        (mac, "02:00:00:00:00:09/"),
        ("/latest/meta-data/tags/instance", "Name\nteam:a"),
        (
            "/latest/meta-data/",
            "ami-id\nami-launch-index\nblock-device-mapping/\nhostname\niam/\ninstance-id\n\
             instance-type\nlocal-hostname\nlocal-ipv4\nmac\nnetwork/\nplacement/\n\
             reservation-id\nsecurity-groups\ntags/",
        ),
    ];
    for (path, right) in cases {
        assert_eq!(said(path).as_deref(), Ok(right), "{path}");
    }
}

#[test]
fn what_is_not_there_is_missing() {
    for path in [
        "",
        "latest/",
        "/2007-01-19/",
        "/latest/meta-data/public-ipv4",
        "/latest/meta-data/instance-id/x",
        "/latest/meta-data//instance-id",
        "/latest/meta-data/iam/security-credentials/other",
        "/latest/meta-data/tags/instance/no good",
        "/latest/meta-data/tags/instance/_index",
        "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:0a/mac",
    ] {
        assert_eq!(said(path), Err(Missing::Path), "{path}");
    }
}

#[test]
fn what_an_instance_does_not_have_is_in_no_list() {
    let mut facts = facts(ID);
    facts.details.user_data = None;
    facts.details.credentials = None;
    facts.details.tags.clear();
    let said = |path: &str| content(&facts, path, NOW);
    assert_eq!(said("/latest/").as_deref(), Ok("dynamic/\nmeta-data/"));
    let categories = said("/latest/meta-data").expect("a list");
    assert!(!categories.contains("iam/") && !categories.contains("tags/"), "{categories}");
    for path in ["user-data", "meta-data/iam/info", "meta-data/tags/instance/"] {
        assert_eq!(said(&format!("/latest/{path}")), Err(Missing::Path), "{path}");
    }
}

#[test]
fn credentials_are_served_until_they_expire_and_not_after() {
    let path = "/latest/meta-data/iam/security-credentials/web";
    let facts = facts(ID);
    let at = |ms| content(&facts, path, NOW.plus(ms));
    let right = json!({
        "Code": "Success",
        "LastUpdated": "2026-11-24T09:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": "EPKA1",
        "SecretAccessKey": "hush",
        "Token": "t0ken",
        "Expiration": "2026-11-24T10:01:00Z",
    });
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(read(&at(59_999).expect("good")), right);
    assert_eq!(at(60_000), Err(Missing::Expired(NOW.plus(60_000))));
    let info = content(&facts, "/latest/meta-data/iam/info", NOW.plus(60_000)).expect("there");
    let arn = "arn:eventplane:iam::default:instance-profile/web";
    assert_eq!(read(&info)["InstanceProfileArn"], arn);
}

#[test]
fn no_output_shows_a_secret() {
    let shown = format!("{:?}", facts(ID));
    for secret in ["hush", "t0ken", "hello"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("EPKA1"), "{shown}");
}

/// A clock that only a test moves.
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

/// A host's service for one instance, and somebody who asks it.
struct Site {
    clock: Arc<Hand>,
    facts: Option<watch::Sender<Known>>,
    address: SocketAddr,
    task: JoinHandle<()>,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Body>,
}

fn tokens(key: u8, clock: &Arc<Hand>) -> Arc<Tokens> {
    let key = DataKey::from_bytes([key; 32]);
    Arc::new(Tokens::new(key, clock.clone(), Arc::new(OsChance::default())))
}

impl Site {
    async fn of(known: Known, key: u8) -> Site {
        let clock = Arc::new(Hand(AtomicI64::new(NOW.0)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (facts, receiver) = watch::channel(known);
        let task = tokio::spawn(serve(listener, receiver, tokens(key, &clock)));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Site { clock, facts: Some(facts), address, task, client }
    }

    async fn new() -> Site {
        Site::of(Some(Arc::new(facts(ID))), 1).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.client.request(request.body(Body::empty()).expect("right")).await;
        let answer = answer.expect("answered");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn token(&self, ttl_s: &str) -> String {
        let (status, token) = self.ask("PUT", TOKEN_PATH, &[(TOKEN_TTL, ttl_s)]).await;
        assert_eq!(status, 200, "{token}");
        token
    }

    async fn status(&self, token: &str) -> u16 {
        self.ask("GET", "/latest/meta-data/instance-id", &[(TOKEN, token)]).await.0
    }
}

#[tokio::test]
async fn a_token_is_asked_for_first_and_opens_everything_until_it_expires() {
    let site = Site::new().await;
    let token = site.token("60").await;
    let headers = [(TOKEN, token.as_str())];
    let path = "/latest/meta-data/tags/instance/team%3Aa";
    assert_eq!(site.ask("GET", path, &headers).await, (200, "b".to_owned()));
    assert_eq!(site.ask("GET", "/latest/meta-data/x", &headers).await.0, 404);
    assert_eq!(site.ask("HEAD", "/latest/user-data", &headers).await, (200, String::new()));
    site.clock.0.fetch_add(59_999, Ordering::SeqCst);
    assert_eq!(site.status(&token).await, 200);
    site.clock.0.fetch_add(1, Ordering::SeqCst);
    let (status, why) = site.ask("GET", "/", &headers).await;
    assert_eq!(status, 401);
    assert!(why.contains(TOKEN_PATH), "{why}");
}

#[tokio::test]
async fn a_token_says_how_long_it_is_good_for() {
    let site = Site::new().await;
    let request = Request::put(format!("http://{}{TOKEN_PATH}", site.address));
    let request = request.header(TOKEN_TTL, "21600").body(Body::empty()).expect("right");
    let answer = site.client.request(request).await.expect("answered");
    assert_eq!(answer.headers()[TOKEN_TTL], "21600");
}

#[tokio::test]
async fn without_a_token_of_its_own_nobody_is_answered() {
    let (site, other) = (Site::new().await, Site::of(Some(Arc::new(facts(OTHER_ID))), 1).await);
    let mut token = site.token("60").await;
    let foreign = other.token("60").await;
    assert_eq!(site.ask("GET", "/latest/meta-data/", &[]).await.0, 401);
    assert_eq!(site.ask("GET", "/", &[]).await.0, 401);
    for (bad, why) in [(foreign.as_str(), "another instance's"), ("", "empty"), ("x.y", "no token")]
    {
        assert_eq!(site.status(bad).await, 401, "{why}");
    }
    assert_eq!((site.status(&token).await, other.status(&foreign).await), (200, 200));
    let last = if token.ends_with('A') { 'B' } else { 'A' };
    token.replace_range(30..31, &last.to_string());
    assert_eq!(site.status(&token).await, 401, "changed");
}

#[tokio::test]
async fn a_token_is_known_again_after_the_agent_was_started_anew_under_the_same_key() {
    let token = Site::new().await.token("60").await;
    assert_eq!(Site::new().await.status(&token).await, 200);
    assert_eq!(Site::of(Some(Arc::new(facts(ID))), 2).await.status(&token).await, 401);
}

#[tokio::test]
async fn a_wrong_request_for_a_token_is_told_what_would_be_right() {
    let site = Site::new().await;
    for ttl_s in ["0", "21601", "-1", "x", ""] {
        let (status, why) = site.ask("PUT", TOKEN_PATH, &[(TOKEN_TTL, ttl_s)]).await;
        assert_eq!(status, 400, "{ttl_s}");
        assert!(why.contains("1 to 21600"), "{why}");
    }
    assert_eq!(site.ask("PUT", TOKEN_PATH, &[]).await.0, 400);
    let forwarded = [(TOKEN_TTL, "60"), ("X-Forwarded-For", "10.0.0.1")];
    assert_eq!(site.ask("PUT", TOKEN_PATH, &forwarded).await.0, 403);
    let ttl = [(TOKEN_TTL, "60")];
    assert_eq!(site.ask("PUT", "/2021-03-23/api/token", &ttl).await.0, 403);
    assert_eq!(site.ask("PUT", "/latest/meta-data/", &ttl).await.0, 404);
    assert_eq!(site.ask("POST", TOKEN_PATH, &ttl).await.0, 405);
    let token = site.token("1").await;
    assert_eq!(site.status(&token).await, 200);
}

#[tokio::test]
async fn nothing_is_said_of_an_instance_that_is_not_known_yet_and_news_is_said_at_once() {
    let site = Site::of(None, 1).await;
    assert_eq!(site.ask("PUT", TOKEN_PATH, &[(TOKEN_TTL, "60")]).await.0, 503);
    let sender = site.facts.as_ref().expect("there");
    sender.send_replace(Some(Arc::new(facts(ID))));
    let token = site.token("60").await;
    let role = "/latest/meta-data/iam/security-credentials/web";
    let secret = site.ask("GET", role, &[(TOKEN, &token)]).await.1;
    assert!(secret.contains("EPKA1"), "{secret}");
    let mut rotated = facts(ID);
    rotated.details.credentials.as_mut().expect("there").access_key_id = "EPKA2".to_owned();
    sender.send_replace(Some(Arc::new(rotated)));
    let secret = site.ask("GET", role, &[(TOKEN, &token)]).await.1;
    assert!(secret.contains("EPKA2"), "{secret}");
    sender.send_modify(|known| {
        let mut expired = InstanceFacts::clone(known.as_ref().expect("known"));
        expired.details.credentials.as_mut().expect("there").expires_at = NOW;
        *known = Some(Arc::new(expired));
    });
    let (status, why) = site.ask("GET", role, &[(TOKEN, &token)]).await;
    assert_eq!((status, why.contains("expired")), (404, true), "{why}");
}

#[tokio::test]
async fn the_service_ends_with_its_instance_and_so_do_open_connections() {
    use tokio::io::AsyncReadExt;
    let mut site = Site::new().await;
    let mut open = TcpStream::connect(site.address).await.expect("connected");
    // Answered, so the connection before it is taken.
    site.token("60").await;
    drop(site.facts.take());
    let ended = tokio::time::timeout(SILENCE_MAX / 2, &mut site.task).await;
    ended.expect("in time").expect("by itself");
    let read = open.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test]
async fn an_instance_has_so_many_connections_and_the_next_waits_its_turn() {
    let site = Site::new().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        open.push(TcpStream::connect(site.address).await.expect("connected"));
    }
    let mut next = Box::pin(site.token("60"));
    let wait = Duration::from_millis(200);
    assert!(tokio::time::timeout(wait, &mut next).await.is_err(), "no room, and yet answered");
    open.pop();
    assert!(!next.await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_for_too_long_makes_room() {
    use tokio::io::AsyncReadExt;
    let site = Site::new().await;
    let mut open = TcpStream::connect(site.address).await.expect("connected");
    let read = tokio::time::timeout(2 * SILENCE_MAX, open.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
}
