//! A host's metadata service, asked by AWS's own client.
#![cfg(feature = "aws")]

use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::imds::{Client, client::error::ImdsError};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::Builder;
use eventplane_agent::metadata::{InstanceFacts, Tokens, serve};
use eventplane_engine::{Clock, OsChance, SystemClock};
use eventplane_keys::DataKey;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// An instance whose credentials expire at this moment, in milliseconds.
fn facts(expires_at: i64) -> InstanceFacts {
    serde_json::from_value(json!({
        "tenant": "default",
        "instance_id": "i-01a20bb48a8000001",
        "launch": {
            "spec": {"reservation_id": "r-7", "instance_type": "t3.micro", "vcpus": 2,
                "memory_mib": 1024, "network_mbps": 64, "image_id": "ami-5", "volumes": []},
            "placement": {"host": "host-a", "zone": "zone-a", "rack": "r1"},
            "network": {"interface_id": "eni-1", "private_ip": "172.31.0.9",
                "mac": "02:00:00:00:00:09", "subnet_id": "subnet-1", "cidr": "172.31.0.0/20",
                "gateway": "172.31.0.1", "security_group_ids": [], "rules": [], "routes": []},
            "volumes": [],
            "identity": {"credentials_version": 1, "signing_key_id": "key-1"},
        },
        "details": {
            "tags": {},
            "user_data": "#!/bin/sh\n",
            "document": {"document": "{}", "signature": "00", "key_id": "key-1"},
            "keys": [],
            "credentials": {"role": "web", "access_key_id": "EPKA1", "secret_access_key": "hush",
                "token": "t0ken", "updated_at": 0, "expires_at": expires_at},
        },
    }))
    .expect("facts")
}

#[tokio::test]
async fn the_aws_sdk_finds_metadata_and_credentials_on_a_host_of_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let expires_at = (SystemClock.now().0 / 1000 + 3600) * 1000;
    let (known, receiver) = watch::channel(Some(Arc::new(facts(expires_at))));
    let (clock, chance) = (Arc::new(SystemClock), Arc::new(OsChance::default()));
    let tokens = Tokens::new(DataKey::from_bytes([7; 32]), clock, chance);
    let service = tokio::spawn(serve(listener, receiver, Arc::new(tokens)));

    let config = ProviderConfig::without_region().with_http_client(Builder::new().build_http());
    let client = Client::builder().configure(&config).endpoint(&endpoint).expect("an address");
    let client = client.build();
    let get = async |path: &str| client.get(path).await.map(String::from);
    let id = get("/latest/meta-data/instance-id").await.expect("answered");
    assert_eq!(id, "i-01a20bb48a8000001");
    assert_eq!(get("/latest/user-data").await.expect("answered"), "#!/bin/sh\n");
    let missing = get("/latest/meta-data/public-ipv4").await.expect_err("not there");
    let ImdsError::ErrorResponse(answer) = missing else { panic!("{missing}") };
    assert_eq!(answer.response().status().as_u16(), 404);

    let provider = || {
        ImdsCredentialsProvider::builder().configure(&config).imds_client(client.clone()).build()
    };
    let found = provider().provide_credentials().await.expect("credentials");
    assert_eq!((found.access_key_id(), found.secret_access_key()), ("EPKA1", "hush"));
    assert_eq!(found.session_token(), Some("t0ken"));
    let expiry = UNIX_EPOCH + Duration::from_millis(u64::try_from(expires_at).expect("later"));
    assert_eq!(found.expiry(), Some(expiry));

    known.send_replace(Some(Arc::new(facts(0))));
    assert!(provider().provide_credentials().await.is_err(), "expired, and yet given out");
    drop(known);
    service.await.expect("ended by itself");
}
