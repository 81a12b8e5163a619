//! The command: many histories on all cores, or one that is told line by line.

use super::fault::{Kind, Kinds, PROFILES, Profile};
use super::mutants::find_all;
use super::rest::History;
use super::setup::Setup;
use super::shrink::shrink;
use super::totals::Totals;
use super::world::Stage;
use clap::Parser;
use eventplane_domain::{Mutant, plant};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Instant;

/// Histories of the whole plane over simulated doors, each from one seed.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
pub struct Options {
    /// How many histories of each profile
    #[arg(long, default_value_t = 300)]
    pub seeds: u64,
    /// Which profile: A to I; all of them if none is named
    #[arg(long, value_parser = profile)]
    pub profile: Option<Profile>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// This history alone, told line by line
    #[arg(long, requires = "profile", conflicts_with_all = ["seeds", "first"])]
    pub seed: Option<u64>,
    /// How many launches each has; two to four if it is not said
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub launches: Option<u16>,
    /// How much happens before the trouble ends
    #[arg(long)]
    pub steps: Option<u64>,
    /// Kinds of trouble to leave out
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    pub without: Vec<Kind>,
    /// The bug to plant
    #[arg(long, value_parser = mutant)]
    pub mutant: Option<Mutant>,
    /// Plant each bug in turn, and print in which history of each profile it is found first
    #[arg(long, conflicts_with_all = ["seed", "mutant"])]
    pub mutants: bool,
    /// With `--mutants`: leave a bug as soon as one profile has found it
    #[arg(long, requires = "mutants")]
    pub quick: bool,
    /// How many at a time; as many as there are cores if it is not said
    #[arg(long)]
    pub threads: Option<usize>,
}

fn profile(letter: &str) -> Result<Profile, String> {
    Profile::of_letter(letter).ok_or_else(|| {
        let all = PROFILES.map(|(profile, about)| format!("{} ({about})", profile.letter()));
        format!("it has to be one of {}", all.join(", "))
    })
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::of_name(name).ok_or_else(|| {
        let all = super::fault::KINDS.map(|(_, name, about)| format!("{name} ({about})"));
        format!("it has to be one of {}", all.join(", "))
    })
}

fn mutant(name: &str) -> Result<Mutant, String> {
    Mutant::of_name(name).ok_or_else(|| {
        let all = Mutant::ALL.map(|mutant| format!("{} ({})", mutant.name(), mutant.bug()));
        format!("it has to be one of {}", all.join(", "))
    })
}

impl Options {
    /// The profiles that were asked for.
    pub(crate) fn profiles(&self) -> Vec<Profile> {
        let all = PROFILES.iter().map(|(profile, _)| *profile);
        self.profile.map_or_else(|| all.collect(), |profile| vec![profile])
    }

    /// The setup of a seed with what was asked for.
    fn setup(&self, profile: Profile, seed: u64) -> Setup {
        let setup = Setup::of(profile, seed, self.launches.map(usize::from));
        let kinds = self.without.iter().copied().fold(setup.kinds, Kinds::without);
        Setup { kinds, steps: self.steps.unwrap_or(setup.steps), ..setup }
    }
}

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic says for whoever catches it, instead of printing it.
pub(crate) fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("a panic without words");
        let at = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
        SAID.with_borrow_mut(|last| *last = format!("{said}{}", at.unwrap_or_default()));
    }));
}

/// Runs a history, on a stage that is made anew after a panic.
///
/// # Errors
/// What the panic said.
pub(crate) fn try_run(
    stage: &mut Option<Stage>,
    setup: Setup,
    tells: bool,
) -> Result<History, String> {
    let on = stage.get_or_insert_with(Stage::new);
    catch_unwind(AssertUnwindSafe(|| on.run(setup, tells))).map_err(|_| {
        if !tells {
            *stage = None;
        }
        SAID.take()
    })
}

/// Does what the command is asked.
#[allow(clippy::print_stdout, reason = "its output is what it is for")]
pub fn command(options: &Options) -> ExitCode {
    keep_panics();
    if options.mutants {
        return find_all(options);
    }
    if let (Some(profile), Some(seed)) = (options.profile, options.seed) {
        plant(options.mutant);
        return tell(options.setup(profile, seed));
    }
    let mut all = Totals::default();
    println!("{}", Totals::HEADER);
    for profile in options.profiles() {
        match run_all(options, profile) {
            Ok(totals) => {
                println!("{}", totals.line(&profile.letter().to_string()));
                all.add(&totals);
            }
            Err((setup, said)) => {
                println!("{} fails: {said}\n\nmaking it smaller ...", setup.command());
                plant(options.mutant);
                let (smaller, said) = shrink(setup, said);
                let planted = options.mutant.map(|one| format!(" --mutant {}", one.name()));
                let planted = planted.unwrap_or_default();
                println!("{said}\n\nto see it:\n  {}{planted}", smaller.command());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{}\n\n{}", all.line("all"), all.table());
    let missing = all.missing();
    if !missing.is_empty() {
        println!("never happened, though it should have:\n  {}", missing.join("\n  "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Tells one history line by line.
#[allow(clippy::print_stdout, reason = "its output is what it is for")]
fn tell(setup: Setup) -> ExitCode {
    let mut stage = None;
    println!("{}", setup.command());
    let kinds: Vec<&str> = setup.kinds.iter().map(Kind::name).collect();
    println!("trouble: {}\n{:>11}", kinds.join(", "), "seconds");
    let came_to = try_run(&mut stage, setup, true);
    for line in stage.as_ref().map(Stage::told).unwrap_or_default() {
        println!("{line}");
    }
    match came_to {
        Ok(history) => {
            let mut totals = Totals::of(setup.profile);
            totals.count(&history);
            println!("\nit holds\n{}\n{}", Totals::HEADER, totals.line("it"));
            println!("\n{}", totals.table());
            ExitCode::SUCCESS
        }
        Err(said) => {
            println!("\nit fails: {said}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the histories of a profile on all cores, until one fails.
///
/// # Errors
/// The failing history with the smallest seed that was met, and what it said.
pub(crate) fn run_all(options: &Options, profile: Profile) -> Result<Totals, (Setup, String)> {
    let (next, end) = (AtomicU64::new(options.first), options.first + options.seeds);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<(Setup, String)>> = Mutex::new(None);
    let totals = Mutex::new(Totals::of(profile));
    let began = Instant::now();
    let work = || {
        plant(options.mutant);
        let mut stage = None;
        let mut own = Totals::of(profile);
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let setup = options.setup(profile, seed);
            match try_run(&mut stage, setup, false) {
                Ok(history) => own.count(&history),
                Err(said) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().expect("no panic");
                    if failed.as_ref().is_none_or(|(other, _)| other.seed > seed) {
                        *failed = Some((setup, said));
                    }
                }
            }
        }
        totals.lock().expect("no panic").add(&own);
    };
    let cores = available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.unwrap_or(cores) {
            scope.spawn(work);
        }
    });
    if let Some(failed) = failed.into_inner().expect("no panic") {
        return Err(failed);
    }
    let mut totals = totals.into_inner().expect("no panic");
    totals.close(began.elapsed());
    Ok(totals)
}
