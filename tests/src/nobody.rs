//! The doors of an api that nobody asks for: no dead letters, no breakers, and nobody who waits.

use async_trait::async_trait;
use eventplane_domain::Millis;
use eventplane_engine::{Breaker, Breakers, DeadLetter, DeadLetters, Fault, Waiter, Watching};

/// Whoever stands behind them.
pub(crate) struct Nobody;

#[async_trait]
impl DeadLetters for Nobody {
    async fn list(&self, _: Option<&str>, _: usize) -> Result<Vec<DeadLetter>, Fault> {
        Ok(vec![])
    }
    async fn get(&self, _: &str) -> Result<Option<DeadLetter>, Fault> {
        Ok(None)
    }
    async fn redrive(&self, _: &str) -> Result<bool, Fault> {
        Ok(false)
    }
    async fn purge(&self, _: &str, _: Millis, _: usize) -> Result<usize, Fault> {
        Ok(0)
    }
}

#[async_trait]
impl Breakers for Nobody {
    async fn breakers(&self) -> Result<Vec<Breaker>, Fault> {
        Ok(vec![])
    }
    async fn set_breaker(&self, _: &str, _: bool) -> Result<Option<Breaker>, Fault> {
        Ok(None)
    }
}

impl Waiter for Nobody {
    fn watch(&self, _: &'static str, _: &str) -> Option<Box<dyn Watching>> {
        None
    }
}
