//! Errors as answers: EC2's codes, a class, a hint, and whether repeating helps.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use eventplane_domain::{MalformedId, Reason};
use eventplane_engine::Fault;
use eventplane_store::{FaultKind, StoreFault};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// The code, in EC2's words where it has one.
    pub code: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The field or parameter that it is about.
    pub field: Option<String>,
    /// After how many seconds it is worth repeating, where that is known.
    pub retry_after_s: Option<u64>,
}

/// The kinds of errors, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ErrorClass)]
pub(crate) enum Class {
    Capacity,
    Quota,
    Throttled,
    Auth,
    Conflict,
    Invalid,
    Internal,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody<'a> {
    error: Shown<'a>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ErrorDetail)]
struct Shown<'a> {
    /// Which error: EC2's word where it has one.
    code: &'a str,
    /// What is wrong, and what would be right.
    message: &'a str,
    /// What kind of error it is.
    class: Class,
    /// Whether the same request may succeed later.
    retry: bool,
    /// The field or parameter that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// What to do about it.
    hint: &'static str,
    /// The answer's id, as in its header `x-request-id`.
    request_id: &'a str,
}

impl Refusal {
    /// A refusal of a request that is not right as it is.
    pub fn invalid(code: &str, message: impl Into<String>) -> Self {
        Refusal {
            status: StatusCode::BAD_REQUEST,
            code: code.to_owned(),
            message: message.into(),
            field: None,
            retry_after_s: None,
        }
    }
    /// A value that is out of its range, or not of its form.
    pub fn value(field: &str, message: impl Into<String>) -> Self {
        Refusal::invalid("InvalidParameterValue", message).about(field)
    }
    /// Something that is not there.
    pub fn not_found(code: &str, message: impl Into<String>) -> Self {
        Refusal { status: StatusCode::NOT_FOUND, ..Refusal::invalid(code, message) }
    }
    /// The same with another status.
    #[must_use]
    pub fn status(self, status: StatusCode) -> Self {
        Refusal { status, ..self }
    }
    /// The same, about this field or parameter.
    #[must_use]
    pub fn about(self, field: &str) -> Self {
        Refusal { field: Some(field.to_owned()), ..self }
    }
    /// The same, worth repeating after this time: in whole seconds, as the header has it.
    #[must_use]
    pub fn after_ms(self, ms: i64) -> Self {
        let seconds = u64::try_from(ms.max(1)).unwrap_or(1).div_ceil(1000);
        Refusal { retry_after_s: Some(seconds), ..self }
    }
    /// An id that is not of its form.
    pub fn malformed(code: &str, field: &str, id: &MalformedId) -> Self {
        Refusal::invalid(code, id.to_string()).about(field)
    }

    /// What kind of error it is.
    pub(crate) fn class(&self) -> Class {
        match (self.status, self.code.as_str()) {
            (_, code) if code.starts_with("Insufficient") => Class::Capacity,
            (_, code) if code.ends_with("LimitExceeded") && code != "RequestLimitExceeded" => {
                Class::Quota
            }
            (_, "RequestLimitExceeded") => Class::Throttled,
            (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => Class::Auth,
            (StatusCode::CONFLICT, _) => Class::Conflict,
            (status, _) if status.is_server_error() => Class::Internal,
            _ => Class::Invalid,
        }
    }

    /// Whether repeating helps. A subnet that is full is the client's to change: EC2 has it among
    /// the client's errors ("Error codes for the Amazon EC2 API", EC2 API reference).
    pub(crate) fn retry(&self) -> bool {
        match self.class() {
            Class::Internal => true,
            Class::Capacity => self.code != "InsufficientFreeAddressesInSubnet",
            Class::Throttled => self.status.is_server_error(),
            _ => false,
        }
    }

    fn hint(&self) -> &'static str {
        match self.code.as_str() {
            "DryRunOperation" => "send the same request without dry_run to do it",
            "IdempotentParameterMismatch" => {
                "use a new client_token, or send the parameters that this one was first sent with"
            }
            "IdempotentInstanceTerminated" => "use a new client_token to launch again",
            "UnknownParameter" => "remove the field; /openapi.json lists all that there are",
            "InvalidInstanceType" => "GET /v1/instance-types lists the types",
            "InvalidAMIID.NotFound" => "GET /v1/images lists the images",
            "InvalidHostID.NotFound" => "POST /v1/hosts registers a host; GET /v1/hosts lists them",
            "InvalidFunction.NotFound" => "GET /v1/breakers lists the functions with an inbox",
            "InvalidInstanceID.NotFound" => "GET /v1/instances lists the instances",
            _ => match self.class() {
                Class::Throttled if !self.status.is_server_error() => {
                    "ask for less at once; repeating it as it is does not help"
                }
                Class::Internal | Class::Throttled => "repeat the request after a moment",
                Class::Capacity => "repeat later, or ask for less",
                Class::Quota => "remove what is no longer needed first",
                Class::Auth => "ask those who run the plane; repeating it as it is does not help",
                Class::Conflict => "look at what stands, then decide anew",
                Class::Invalid => "change the request; repeating it as it is does not help",
            },
        }
    }

    /// The answer's body.
    pub(crate) fn body(&self, request_id: &str) -> Vec<u8> {
        let (class, retry) = (self.class(), self.retry());
        let (code, message, field) = (&self.code, &self.message, self.field.as_deref());
        let error = Shown { code, message, class, retry, field, hint: self.hint(), request_id };
        serde_json::to_vec(&ErrorBody { error }).expect("plain data")
    }
}

/// The body is written by the outermost layer, which knows the request's id.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match &fault {
            Fault::Store(StoreFault { kind: FaultKind::Corrupt, .. }) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        error!(%fault, "a request was not done");
        let (code, message) = match status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                ("InternalError", "something stored is not readable; the log names it")
            }
            _ => ("ServiceUnavailable", "it was not done, or not wholly: repeating it is safe"),
        };
        Refusal::invalid(code, message).status(status)
    }
}

impl From<StoreFault> for Refusal {
    fn from(fault: StoreFault) -> Self {
        Fault::from(fault).into()
    }
}

/// Codes that say: not whoever sent this.
const FORBIDDEN: [&str; 4] =
    ["EnrolmentTokenUsed", "InvalidEnrolmentToken", "HostIsEnrolled", "HostKeyRevoked"];

/// How codes end that say: something stands in the way.
const CONFLICTS: [&str; 7] =
    [".Conflict", ".Duplicate", "InUse", "AlreadyExists", "Violation", "LimitExceeded", "State"];

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        let code = reason.code.trim_start_matches("Client.").trim_start_matches("Server.");
        let status = if code.ends_with(".NotFound") {
            StatusCode::NOT_FOUND
        } else if code == "HostUnauthenticated" {
            StatusCode::UNAUTHORIZED
        } else if FORBIDDEN.contains(&code) {
            StatusCode::FORBIDDEN
        } else if CONFLICTS.iter().any(|end| code.ends_with(end))
            || matches!(code, "CannotDelete" | "OperationNotPermitted" | "HostFenced")
        {
            StatusCode::CONFLICT
        } else {
            StatusCode::BAD_REQUEST
        };
        Refusal::invalid(code, reason.message).status(status)
    }
}
