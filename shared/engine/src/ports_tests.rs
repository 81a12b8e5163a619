//! What a port does by itself.

use super::*;
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

/// Dead letters by their id and the moment since which they are there; those redriven are noted.
struct Letters(Vec<(&'static str, i64)>, Mutex<Vec<String>>);

#[async_trait]
impl DeadLetters for Letters {
    async fn list(&self, _: Option<&str>, limit: usize) -> Result<Vec<DeadLetter>, Fault> {
        let letter = |(id, at): &(&str, i64)| DeadLetter {
            id: (*id).to_owned(),
            function: "network".to_owned(),
            reason: "as told".to_owned(),
            received: 5,
            at: Millis(*at),
            body: String::new(),
        };
        Ok(self.0.iter().take(limit).map(letter).collect())
    }
    async fn get(&self, _: &str) -> Result<Option<DeadLetter>, Fault> {
        Ok(None)
    }
    /// One that is called `gone` was redriven by somebody else meanwhile.
    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.1.lock().expect("no panic").push(id.to_owned());
        Ok(id != "gone")
    }
    async fn purge(&self, _: &str, _: Millis, _: usize) -> Result<usize, Fault> {
        Ok(0)
    }
}

#[test]
fn only_letters_that_were_dead_by_then_are_redriven_and_only_those_count() {
    let letters = Letters(vec![("a", 4), ("b", 5), ("gone", 3), ("later", 6)], Mutex::default());
    let redriven = match pin!(letters.redrive_all(None, Millis(5), 9))
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(redriven) => redriven.expect("no fault"),
        Poll::Pending => panic!("nothing here waits"),
    };
    assert_eq!(redriven, 2);
    assert_eq!(*letters.1.lock().expect("no panic"), ["a", "b", "gone"]);
}

#[test]
fn breakers_have_the_names_that_people_and_programs_know() {
    use BreakerState::{Closed, Disabling, Draining, Enabling, Open};
    let names = [Closed, Disabling, Open, Enabling, Draining].map(BreakerState::name);
    assert_eq!(names, ["closed", "disabling", "open", "enabling", "draining"]);
}
