//! What is wrong with a pattern.

use thiserror::Error;

/// Why a text is not an event pattern.
#[derive(Debug, Error)]
pub enum PatternError {
    /// It is not JSON.
    #[error("an event pattern is a JSON object: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It breaks a rule of event patterns.
    #[error("{path}: {right}")]
    Invalid {
        /// Where, such as `detail.state`.
        path: String,
        /// What would be right.
        right: String,
    },
}
