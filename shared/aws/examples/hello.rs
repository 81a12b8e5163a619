//! The least that a function on Lambda can be: the bench measures Eventplane's own beside it.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(async |_: LambdaEvent<Value>| Ok::<Value, Error>(Value::Null))).await
}
