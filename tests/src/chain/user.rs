//! Users: what they do about an answer that does not come, and how long their requests stay open.

use super::weather::Weather;
use super::{Answer, ControlPlane};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// After how long a load balancer ends a request.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// The waits of a user who asks again with the same token double from a second to a minute.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long such a user goes on asking.
const PERSISTENCE: Duration = Duration::from_secs(600);
/// One user in so many asks once: a script that ends, a browser that is closed.
const ASKS_ONCE_ONE_IN: usize = 3;

/// What a user has heard in the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) answer: Answer,
    /// How long the longest of the user's requests stayed open, in milliseconds.
    pub(crate) hung_ms: u64,
}

/// Asks for a launch. Where there are no tokens nobody asks twice: it would be another launch.
pub(crate) async fn ask(
    plane: Arc<dyn ControlPlane>,
    weather: Arc<Weather>,
    launch: usize,
    at_ms: u64,
) -> Told {
    weather.until_ms(at_ms).await;
    let begun = Instant::now();
    let persists = plane.knows_tokens() && !launch.is_multiple_of(ASKS_ONCE_ONE_IN);
    let mut told = Told { answer: Answer::Unknown, hung_ms: 0 };
    let mut wait = Duration::from_secs(1);
    loop {
        let sent = Instant::now();
        let answer = timeout(OPEN_MAX, plane.clone().ask(launch)).await;
        told.answer = answer.unwrap_or(Answer::Unknown);
        let open_ms = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
        told.hung_ms = told.hung_ms.max(open_ms);
        if told.answer != Answer::Unknown || !persists || begun.elapsed() > PERSISTENCE {
            return told;
        }
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}
