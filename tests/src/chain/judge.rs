//! A history from its first launch until all is well again, or plainly never will be; and what it
//! came to.

use super::caller::Chain;
use super::plane::Eventplane;
use super::user::{self, Told};
use super::weather::{START, Weather};
use super::{Answer, ControlPlane, Fault, Kind, Listed, Stand};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// How often the judge looks in the first minutes after the fault has ended, and later.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_LATER: Duration = Duration::from_secs(30);
const CLOSELY_MS: u64 = 120_000;
/// What is not well so long after the end of the fault never will be, in milliseconds.
const GIVEN_UP_MS: u64 = 2 * 3_600_000;

/// What one history came to. Each launch asked for runs, is refused, or is one of the other two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which control plane.
    pub kind: Kind,
    /// Under which fault.
    pub fault: Fault,
    /// Launches asked for.
    pub asked: usize,
    /// They run, hold what they need, and are shown so.
    pub running: usize,
    /// Their user was told no, or sees that they have ended, or was told that it may not have been
    /// done; and nothing is held for them.
    pub refused: usize,
    /// Their user was not told no, and nothing will ever finish them.
    pub lost: usize,
    /// They do not run for a user, and something is held for them, runs, or is shown as pending.
    pub left_behind: usize,
    /// How long after it was asked for the middle one of those that run was shown to run, in
    /// milliseconds.
    pub ran_after_ms_median: u64,
    /// How long the longest request of a user stayed open, in milliseconds: of the middle user.
    pub hung_ms_median: u64,
    /// The same, of all users.
    pub hung_ms_max: u64,
    /// When all was well again, in milliseconds after the end of the fault; none if it never was.
    pub well_after_ms: Option<u64>,
}

/// What became of one launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Runs,
    Refused,
    /// It was refused, and something is left of it.
    LeftBehind,
    Lost,
}

fn verdict(answer: Answer, stand: Stand) -> Verdict {
    let is_whole = stand.held == 4 && stand.running == 1;
    match (answer, stand.listed) {
        (Answer::Yes | Answer::Unknown, Some(Listed::Running)) if is_whole => Verdict::Runs,
        // Whoever was told yes sees the end in the list.
        (Answer::Yes, Some(Listed::Ended)) | (Answer::No | Answer::Unknown, _)
            if is_gone(stand) =>
        {
            Verdict::Refused
        }
        (Answer::No, _) => Verdict::LeftBehind,
        (Answer::Yes | Answer::Unknown, _) => Verdict::Lost,
    }
}

/// Whether nothing of a launch is there any more, or ever was.
fn is_gone(stand: Stand) -> bool {
    stand.held == 0 && stand.running == 0 && matches!(stand.listed, None | Some(Listed::Ended))
}

async fn start(kind: Kind, weather: &Arc<Weather>) -> Arc<dyn ControlPlane> {
    match kind {
        Kind::Chain => Chain::new(weather.clone(), false),
        Kind::CarefulChain => Chain::new(weather.clone(), true),
        Kind::Eventplane => Eventplane::start(weather.clone()).await,
    }
}

/// What users were told, by launch.
type AllTold = Arc<Mutex<BTreeMap<usize, Told>>>;

/// Runs one history.
pub(crate) async fn history(kind: Kind, fault: Fault, seed: u64) -> Row {
    let weather = Weather::new(fault, seed);
    let plane = start(kind, &weather).await;
    tokio::spawn(weather.clone().crash_callers());
    let all_told = AllTold::default();
    let asked_at = fault.launches_at_ms();
    let asked = asked_at.len();
    for (launch, at_ms) in asked_at.iter().copied().enumerate() {
        let (plane, weather, all_told) = (plane.clone(), weather.clone(), all_told.clone());
        tokio::spawn(async move {
            let told = user::ask(plane, weather, launch, at_ms).await;
            all_told.lock().unwrap_or_else(PoisonError::into_inner).insert(launch, told);
        });
    }
    weather.until_ms(weather.end_ms()).await;
    if fault == Fault::HostLost {
        plane.host_is_dead(&super::host_id(0)).await;
    }
    let (well_at, look) = settle(&weather, &*plane, &all_told, asked).await;
    let count = |wanted| look.verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let hung: Vec<u64> = look.told.values().map(|told| told.hung_ms).collect();
    let ran_after = look.ran_at.iter().map(|(launch, at_ms)| at_ms - asked_at[*launch]).collect();
    Row {
        kind,
        fault,
        asked,
        running: count(Verdict::Runs),
        refused: count(Verdict::Refused),
        lost: count(Verdict::Lost),
        left_behind: look.left_behind,
        ran_after_ms_median: median(ran_after).unwrap_or(0),
        hung_ms_max: hung.iter().copied().max().unwrap_or(0),
        hung_ms_median: median(hung).unwrap_or(0),
        well_after_ms: well_at.map(|at| at - weather.end_ms()),
    }
}

fn median(mut all: Vec<u64>) -> Option<u64> {
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// What the judge sees at one moment.
struct Look {
    /// When each launch that runs was first shown so, in milliseconds.
    ran_at: Vec<(usize, u64)>,
    told: BTreeMap<usize, Told>,
    verdicts: Vec<Verdict>,
    left_behind: usize,
}

impl Look {
    fn at(plane: &dyn ControlPlane, all_told: &AllTold, asked: usize) -> Look {
        let told = all_told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stands = plane.stands(asked);
        let judge = |(launch, told): (&usize, &Told)| verdict(told.answer, stands[*launch]);
        let verdicts: Vec<Verdict> = told.iter().map(judge).collect();
        let is_left = |(launch, verdict): (&usize, &Verdict)| {
            *verdict != Verdict::Runs && !is_gone(stands[*launch])
        };
        let left_behind = told.keys().zip(&verdicts).filter(|one| is_left(*one)).count();
        let ran_at = |(launch, verdict): (&usize, &Verdict)| {
            let since = stands[*launch].since.filter(|_| *verdict == Verdict::Runs)?;
            Some((*launch, since.since(START).unsigned_abs()))
        };
        let ran_at = told.keys().zip(&verdicts).filter_map(ran_at).collect();
        Look { ran_at, told, verdicts, left_behind }
    }

    fn is_well(&self, asked: usize) -> bool {
        let is_good = |verdict: &Verdict| matches!(verdict, Verdict::Runs | Verdict::Refused);
        self.told.len() == asked && self.verdicts.iter().all(is_good)
    }
}

/// Looks until all is well and nothing is under way, or until that is not to be expected any more.
async fn settle(
    weather: &Weather,
    plane: &dyn ControlPlane,
    all_told: &AllTold,
    asked: usize,
) -> (Option<u64>, Look) {
    let mut well_at = None;
    loop {
        let now = weather.at_ms();
        let look = Look::at(plane, all_told, asked);
        well_at = if look.is_well(asked) { well_at.or(Some(now)) } else { None };
        let since = now - weather.end_ms();
        let is_over = weather.is_idle()
            && (well_at.is_some() || (look.told.len() == asked && !plane.sweeps()));
        if is_over || since > GIVEN_UP_MS {
            return (well_at, look);
        }
        sleep(if since < CLOSELY_MS { LOOK } else { LOOK_LATER }).await;
    }
}
