//! What can go wrong for a user of the command, and the exit code that says it to programs.

use crate::reach::Proof;
use serde_json::Value;
use std::fmt::Write as _;
use thiserror::Error;

/// The exit codes and the environment, as `--help` has them.
pub(crate) const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  the control plane refused, or what was asked for has failed
  2  bad usage or bad input; nothing was sent
  3  the endpoint cannot be reached
  4  waited in vain, or the answer was lost: it may still happen, or have happened

Environment:
  EVENTPLANE_ENDPOINT  as --endpoint
  EVENTPLANE_OUTPUT    as --output
  EVENTPLANE_TOKEN     as --token
  EVENTPLANE_SIGN      as --sign; AWS_PROFILE, AWS_REGION and the like say with what
  EVENTPLANE_LOG       what goes to the log on standard error, such as `debug`; warnings otherwise
  NO_COLOR             no colour";

/// Why a command did not do what it was to do.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    /// The control plane answered with an error.
    #[error("{}", .0.text())]
    Refused(Refusal),
    /// What was asked for was accepted and then failed, or a part of it was refused.
    #[error("error: {0}")]
    Failed(String),
    /// As above, and it has been shown already.
    #[error("")]
    Shown(Box<Problem>),
    /// Nothing was sent, because what was given cannot be right.
    #[error("error: {0}")]
    Input(String),
    /// No answer came.
    #[error(
        "error: cannot reach {endpoint} ({why})\n hint: start a plane with `eventplane up`, \
             or say where one is with --endpoint or EVENTPLANE_ENDPOINT"
    )]
    Unreachable {
        /// Where it was sent.
        endpoint: String,
        /// What came back instead.
        why: String,
    },
    /// What was to be changed may have been.
    #[error(
        "error: {endpoint} was asked, and its answer is lost ({why}): it may have been done\n hint: \
             look before asking again; a launch with --client-token may be repeated safely"
    )]
    AnswerLost {
        /// Where it was sent.
        endpoint: String,
        /// What came back instead.
        why: String,
    },
    /// The patience that was asked for is at its end.
    #[error("error: {0}")]
    TimedOut(String),
}

impl Problem {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Problem::Refused(_) | Problem::Failed(_) => 1,
            Problem::Shown(problem) => problem.exit_code(),
            Problem::Input(_) => 2,
            Problem::Unreachable { .. } => 3,
            Problem::AnswerLost { .. } | Problem::TimedOut(_) => 4,
        }
    }
}

/// An error of the control plane, as its body has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    message: String,
    hint: Option<String>,
    request_id: Option<String>,
}

impl Refusal {
    /// Reads the error out of an answer. One that has no code is not the api's own: a gateway
    /// before it has answered, and what would be right depends on what the request said of its
    /// sender. An answer of something else is shown as it is.
    pub(crate) fn read(status: u16, body: &[u8], proof: Proof) -> Refusal {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = json.get("error").filter(|error| error.is_object()).unwrap_or(&json);
        let text = |name: &str| {
            let value = error.get(name).or_else(|| json.get(name));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        let raw = || String::from_utf8_lossy(body).chars().take(200).collect::<String>();
        let code = text("code");
        let hint = match &code {
            Some(_) => text("hint"),
            None => gateway_hint(status, proof).map(str::to_owned),
        };
        Refusal {
            status,
            code: code.unwrap_or_else(|| format!("status {status}")),
            message: text("message").or_else(|| text("Message")).unwrap_or_else(raw),
            hint,
            request_id: text("request_id"),
        }
    }

    /// Whether the same question may be answered in a moment: too many asked, or a gateway had no
    /// answer to give.
    pub(crate) fn is_for_now(&self) -> bool {
        matches!(self.status, 429 | 502..=504)
    }

    /// The hint in the words of this command: the API's own speak of requests.
    fn hint(&self) -> Option<&str> {
        let verb = match self.code.as_str() {
            "InvalidInstanceType" => "`eventplane types` lists the types",
            "InvalidHostID.NotFound" => "`eventplane hosts` lists the hosts",
            "InvalidInstanceID.NotFound" => "`eventplane list` lists the instances",
            "InvalidFunction.NotFound" => "`eventplane breaker list` lists the functions",
            "InvalidDeadLetterID.NotFound" => "`eventplane dead-letters list` lists them",
            _ => return self.hint.as_deref(),
        };
        Some(verb)
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}: {}", self.code, self.message);
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\n hint: {hint}");
        }
        if let Some(id) = &self.request_id {
            let _ = write!(text, "\n request id: {id}");
        }
        text
    }
}

/// What would be right when a gateway has answered in place of the api.
fn gateway_hint(status: u16, proof: Proof) -> Option<&'static str> {
    let hint = match (status, proof) {
        (401 | 403, Proof::None) => {
            "it asks who you are: --sign (EVENTPLANE_SIGN) signs with AWS credentials, --token \
             (EVENTPLANE_TOKEN) sends a JWT"
        }
        (401 | 403, Proof::Token) => {
            "the token is not taken: it may have expired, or be for another audience; --sign signs \
             with AWS credentials instead"
        }
        (401 | 403, Proof::Signature) => {
            "the credentials are not taken: they need execute-api:Invoke on this route, and the \
             clock has to be right; `aws sts get-caller-identity` says whose they are"
        }
        (404, _) => "there is no such route: the endpoint may lack the path of its stage",
        (429, _) => "too many requests at once: try again in a few seconds",
        (500 | 502..=504, _) => {
            "the function behind it failed or took too long: try again; its log says why"
        }
        _ => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_code_its_message_and_its_hint() {
        let body = br#"{"error":{"code":"InvalidInstanceType","message":"no `x9`",
            "hint":"GET /v1/instance-types","class":"invalid"},"request_id":"req-1"}"#;
        let refusal = Refusal::read(400, body, Proof::None);
        assert_eq!(
            Problem::Refused(refusal).to_string(),
            "error: InvalidInstanceType: no `x9`\n hint: `eventplane types` lists the types\n request id: req-1"
        );
    }

    #[test]
    fn an_answer_of_something_else_is_shown_as_it_is() {
        let refusal = Refusal::read(418, b"<html>a teapot</html>", Proof::None);
        assert_eq!(refusal.text(), "error: status 418: <html>a teapot</html>");
    }

    #[test]
    fn an_answer_of_a_gateway_says_what_would_be_right() {
        let cases = [
            (403, r#"{"message":"Forbidden"}"#, Proof::None, "Forbidden", "--sign"),
            (
                403,
                r#"{"message":"Forbidden"}"#,
                Proof::Signature,
                "Forbidden",
                "execute-api:Invoke",
            ),
            (
                403,
                r#"{"message":"Missing Authentication Token"}"#,
                Proof::None,
                "Missing Authentication Token",
                "--sign",
            ),
            (
                403,
                r#"{"Message":"User: x is not authorized"}"#,
                Proof::Signature,
                "User: x is not",
                "whose",
            ),
            (401, r#"{"message":"Unauthorized"}"#, Proof::Token, "Unauthorized", "expired"),
            (404, r#"{"message":"Not Found"}"#, Proof::None, "Not Found", "stage"),
            (429, r#"{"message":"Too Many Requests"}"#, Proof::None, "Too Many", "try again"),
            (503, r#"{"message":"Service Unavailable"}"#, Proof::None, "Service", "try again"),
            (500, r#"{"message":"Internal Server Error"}"#, Proof::None, "Internal", "log"),
        ];
        for (status, body, proof, message, hint) in cases {
            let problem = Problem::Refused(Refusal::read(status, body.as_bytes(), proof));
            let text = problem.to_string();
            assert!(text.starts_with(&format!("error: status {status}: {message}")), "{text}");
            assert!(text.contains("\n hint: ") && text.contains(hint), "{text}");
            assert_eq!(problem.exit_code(), 1);
        }
    }
}
