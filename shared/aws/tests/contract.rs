//! The store's contract suite on DynamoDB, or on what stands in for it.
//!
//! Where that is, is said by `AWS_ENDPOINT_URL`, with the account beside it; `cargo xtask e2e` runs
//! this test against its emulator.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use eventplane_aws::DynamoStore;
use eventplane_engine::OsChance;
use eventplane_store::contract::{TABLE, run_all};
use std::collections::BTreeSet;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an endpoint of AWS: cargo xtask e2e runs it"]
async fn the_store_on_dynamodb_keeps_the_contract() {
    let client = Client::new(&eventplane_aws::config());
    let name = format!("contract-{}", std::process::id());
    create(&client, &name).await;
    let store = DynamoStore::new(
        client.clone(),
        vec![(TABLE, name.clone())],
        Arc::new(OsChance::default()),
    );
    run_all(Arc::new(store)).await;
    client.delete_table().table_name(name).send().await.expect("the table goes");
}

/// The suite's table, with the keys that every table of the template has.
async fn create(client: &Client, name: &str) {
    let key = |name: &str, kind: KeyType| {
        KeySchemaElement::builder().attribute_name(name).key_type(kind).build().expect("complete")
    };
    let mut texts = BTreeSet::from(["pk", "sk"]);
    let mut table = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range));
    for index in TABLE.indexes {
        texts.extend([index.partition, index.sort]);
        let keys = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
        let index = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .key_schema(key(index.partition, KeyType::Hash))
            .key_schema(key(index.sort, KeyType::Range))
            .projection(keys);
        table = table.global_secondary_indexes(index.build().expect("complete"));
    }
    for text in texts {
        let text = AttributeDefinition::builder()
            .attribute_name(text)
            .attribute_type(ScalarAttributeType::S);
        table = table.attribute_definitions(text.build().expect("complete"));
    }
    table.send().await.expect("the table is made");
}
