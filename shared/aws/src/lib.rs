//! The doors to AWS: the store on DynamoDB, the bus on EventBridge, dead letters on SQS, breakers
//! by Lambda's event source mappings, the master key in KMS, and the shells that functions run in on Lambda.
//!
//! The only library that knows the SDK. It chooses nothing: what a function does is decided behind
//! the ports that it is given here.

mod backoff;
#[cfg(feature = "breakers")]
mod breakers;
mod bus;
mod config;
mod http;
mod kms;
mod letters;
mod log;
mod settings;
mod shell;
mod store;
mod world;

#[cfg(feature = "breakers")]
pub use breakers::MappingBreakers;
pub use bus::EventBridge;
pub use config::config;
pub use http::{NobodyTells, serve_http};
pub use kms::KmsMasterKey;
pub use lambda_runtime::Error;
pub use letters::SqsDeadLetters;
pub use settings::SettingError;
pub use shell::{RECEIVES_MAX, serve, serve_schedule};
pub use store::DynamoStore;
pub use world::World;
