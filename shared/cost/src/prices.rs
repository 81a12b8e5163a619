//! What AWS asks, in us-east-1.

use serde::Serialize;

/// How well a price is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// Read in a stored copy of AWS's own page, of an unknown day.
    Copy,
    /// Read only where others quote AWS's page.
    Quoted,
    /// Read nowhere: from memory.
    Unchecked,
}

impl Known {
    /// The same for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Known::Copy => "a copy of AWS's page",
            Known::Quoted => "others' quotes of it",
            Known::Unchecked => "nowhere: not checked",
        }
    }
}

/// A price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Price {
    /// For what.
    pub what: &'static str,
    /// Dollars.
    pub usd: f64,
    /// For so many.
    pub per: f64,
    /// Where AWS says so.
    pub page: &'static str,
    /// Whether that could be read.
    pub known: Known,
}

const MILLION: f64 = 1e6;
const DYNAMODB: &str = "https://aws.amazon.com/dynamodb/pricing/on-demand/";
const EVENTBRIDGE: &str = "https://aws.amazon.com/eventbridge/pricing/";
const SQS: &str = "https://aws.amazon.com/sqs/pricing/";
const LAMBDA: &str = "https://aws.amazon.com/lambda/pricing/";
const API_GATEWAY: &str = "https://aws.amazon.com/api-gateway/pricing/";
const STEP_FUNCTIONS: &str = "https://aws.amazon.com/step-functions/pricing/";
const CLOUDWATCH: &str = "https://aws.amazon.com/cloudwatch/pricing/";
const KMS: &str = "https://aws.amazon.com/kms/pricing/";

const fn price(what: &'static str, usd: f64, per: f64, page: &'static str, known: Known) -> Price {
    Price { what, usd, per, page, known }
}

/// Write units of tables on demand.
pub const WRITE_UNIT: Price =
    price("DynamoDB write units", 0.625, MILLION, DYNAMODB, Known::Quoted);
/// Read units of tables on demand.
pub const READ_UNIT: Price = price("DynamoDB read units", 0.125, MILLION, DYNAMODB, Known::Quoted);
/// What tables hold.
pub const STORAGE: Price = price("DynamoDB storage, GB-months", 0.25, 1.0, DYNAMODB, Known::Copy);
/// Recovery of tables to a point in time.
pub const RECOVERY: Price =
    price("point-in-time recovery, GB-months", 0.20, 1.0, DYNAMODB, Known::Unchecked);
/// Events of one's own on a bus, each up to 64 KB. Rules and scheduled rules are free.
pub const EVENT: Price = price("EventBridge events", 1.0, MILLION, EVENTBRIDGE, Known::Quoted);
/// Requests of standard queues, each up to 64 KB.
pub const QUEUE_REQUEST: Price = price("SQS requests", 0.40, MILLION, SQS, Known::Quoted);
/// Invocations.
pub const INVOCATION: Price = price("Lambda invocations", 0.20, MILLION, LAMBDA, Known::Quoted);
/// Compute on arm64.
pub const COMPUTE: Price =
    price("Lambda GB-seconds, arm64", 13.3334, MILLION, LAMBDA, Known::Quoted);
/// Requests of an HTTP API, each up to 512 KB; the first 300 million of a month.
///
/// Read in the whitepaper "Best Practices for Designing Amazon API Gateway Private APIs and Private
/// Integration".
pub const HTTP_REQUEST: Price = price("HTTP API requests", 1.0, MILLION, API_GATEWAY, Known::Copy);
/// State transitions of Standard workflows.
pub const TRANSITION: Price =
    price("Step Functions Standard transitions", 25.0, MILLION, STEP_FUNCTIONS, Known::Copy);
/// Executions of Express workflows.
pub const EXPRESS: Price =
    price("Step Functions Express requests", 1.0, MILLION, STEP_FUNCTIONS, Known::Quoted);
/// Their time, in chunks of 64 MB and 100 ms.
pub const EXPRESS_COMPUTE: Price =
    price("Step Functions Express GB-seconds", 16.67, MILLION, STEP_FUNCTIONS, Known::Quoted);
/// Metrics that alarms look at.
pub const ALARM: Price = price("CloudWatch alarm metrics", 0.10, 1.0, CLOUDWATCH, Known::Quoted);
/// Dashboards.
pub const DASHBOARD: Price = price("CloudWatch dashboards", 3.0, 1.0, CLOUDWATCH, Known::Quoted);
/// Keys of one's own.
pub const KEY: Price = price("KMS keys", 1.0, 1.0, KMS, Known::Copy);

/// All of them.
pub const ALL: [Price; 15] = [
    WRITE_UNIT,
    READ_UNIT,
    STORAGE,
    RECOVERY,
    EVENT,
    QUEUE_REQUEST,
    INVOCATION,
    COMPUTE,
    HTTP_REQUEST,
    TRANSITION,
    EXPRESS,
    EXPRESS_COMPUTE,
    ALARM,
    DASHBOARD,
    KEY,
];
