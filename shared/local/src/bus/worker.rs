//! Delivering: one message after another to one function.

use super::Shared;
use super::queue::{Message, Next, Queue};
use eventplane_engine::{Failure, Handler};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::task::coop;
use tokio::time::timeout;

/// What came of a delivery.
enum Outcome {
    Handled,
    /// To be delivered again, if it may be.
    Failed(String),
    /// To become a dead letter at once.
    SetAside(String),
}

/// Delivers what is in `queue` to `handler`, until the queue is stopped.
pub(super) async fn work(shared: Arc<Shared>, queue: Arc<Queue>, handler: Arc<dyn Handler>) {
    loop {
        match queue.next() {
            Next::Stop => return,
            Next::Wait => queue.woken().await,
            Next::Deliver(message, broken) => {
                shared.deliveries.fetch_add(1, Ordering::Relaxed);
                let outcome = match broken {
                    Some(reason) => Outcome::Failed(reason.to_string()),
                    None => deliver(&queue, &*handler, &message).await,
                };
                settle(&shared, &queue, message, outcome).await;
            }
        }
        // A handler that never waits must not keep others from their turn.
        coop::consume_budget().await;
    }
}

/// Hands a message over once. After the visibility timeout the message is another's: the delivery
/// ends there, as Lambda ends a function that takes too long.
async fn deliver(queue: &Queue, handler: &dyn Handler, message: &Message) -> Outcome {
    let limit = Duration::from_millis(queue.inbox.visibility_timeout_ms);
    match timeout(limit, without_panic(handler.deliver(&message.body, message.received))).await {
        Ok(Ok(Ok(()))) => Outcome::Handled,
        Ok(Ok(Err(Failure::Retry(fault)))) => Outcome::Failed(fault.to_string()),
        Ok(Ok(Err(Failure::SetAside(unreadable)))) => Outcome::SetAside(unreadable.to_string()),
        Ok(Err(words)) => Outcome::Failed(format!("{} panicked: {words}", handler.name())),
        Err(_) => {
            let words = format!("{} was not done within {} ms", handler.name(), limit.as_millis());
            Outcome::Failed(words)
        }
    }
}

async fn settle(shared: &Shared, queue: &Queue, message: Message, outcome: Outcome) {
    let reason = match outcome {
        Outcome::Handled => {
            shared.letters.handled(&message).await;
            shared.deleted.fetch_add(1, Ordering::Relaxed);
            return queue.done();
        }
        Outcome::Failed(_) if message.received < queue.inbox.receives_max => {
            return queue.again_later(message);
        }
        Outcome::Failed(reason) | Outcome::SetAside(reason) => reason,
    };
    let function = &queue.inbox.function;
    match shared.letters.keep(function, &message, &reason).await {
        Ok(()) => {
            tracing::warn!(function, received = message.received, reason, "a dead letter");
            shared.deleted.fetch_add(1, Ordering::Relaxed);
            queue.dead.fetch_add(1, Ordering::Relaxed);
            queue.done();
        }
        Err(fault) => {
            tracing::error!(function, reason, %fault, "not kept as a dead letter yet");
            queue.again_later(message);
        }
    }
}

/// Runs `future`; if it panics, says with which words.
async fn without_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = pin!(future);
    // The future is not polled again after a panic, so nobody sees it half way.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(words_of(&*panic))),
    })
    .await
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}
