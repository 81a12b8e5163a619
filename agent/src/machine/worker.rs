//! One instance on a real host: its orders, one after the other, and what happens to it between them.

use super::keeping::{Kept, sweep};
use super::run::{Exit, Plan, Run, RunDir};
use super::service::Service;
use super::{Order, World, place};
use crate::driver::Happened;
use crate::host::Phase;
use crate::metadata::{Details, InstanceFacts};
use crate::restart::{self, End, Next};
use crate::round::now;
use crate::wire::InstanceKey;
use eventplane_domain::{Millis, Reason, code};
use serde::{Deserialize, Serialize};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

/// How soon after a failure the plane is asked again about an instance: from this, doubled to that.
const ASK_AGAIN_MS: (u64, u64) = (200, 30_000);
/// How much of an instance's output is sent, in bytes ("GetConsoleOutput", EC2 API reference, gives
/// the newest 64 KB; ours have to fit into an item).
const CONSOLE_BYTES_MAX: usize = 16 * 1024;
/// How long after each try its output is sent again, in seconds, while the plane is away.
const CONSOLE_TRIES_S: [u64; 5] = [1, 4, 15, 60, 300];
/// How soon it is tried again to look at or to end what would not be.
const AGAIN: Duration = Duration::from_secs(5);

/// What a worker is told.
pub(crate) enum Command {
    /// The agent was started anew: so the instance stood, as it remembers.
    Resume(u32, Phase),
    /// Start this generation of it.
    Start(u32),
    /// Start anew what runs.
    Reboot(u32),
    /// Nothing of it is to run.
    Stop,
    /// Somebody wants to see its output.
    Console,
}

/// How it stands.
enum Standing {
    /// Nothing of it runs.
    Idle,
    /// Its keeper lives.
    Runs(Box<Running>),
    /// Its program has crashed, and is started again then.
    Waits(Instant, Box<Running>),
}

/// What is known of an instance that runs, or is about to run again.
struct Running {
    order: Order,
    plan: Plan,
    /// None while it waits.
    kept: Option<Kept>,
    service: Service,
}

/// Why it is not started again, for an agent that comes after.
#[derive(Serialize, Deserialize)]
struct Ended {
    generation: u32,
    reason: Reason,
}

/// What its metadata service tells, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptFacts {
    generation: u32,
    facts: InstanceFacts,
}

/// The keeper of the orders of one instance.
pub(crate) struct Worker {
    pub(crate) key: InstanceKey,
    pub(crate) dir: RunDir,
    pub(crate) world: Arc<World>,
    pub(crate) commands: UnboundedReceiver<Command>,
    pub(crate) tell: UnboundedSender<Happened>,
}

/// A start came to nothing.
enum NotStarted {
    /// It cannot be started here.
    Because(String),
    /// Something else was ordered meanwhile.
    Overtaken(Option<Command>),
}

impl From<std::io::Error> for NotStarted {
    fn from(error: std::io::Error) -> Self {
        NotStarted::Because(error.to_string())
    }
}
impl From<String> for NotStarted {
    fn from(why: String) -> Self {
        NotStarted::Because(why)
    }
}

impl Worker {
    /// Does as it is told, until nobody can tell it more. What runs then runs on.
    pub(crate) async fn run(mut self) {
        let mut standing = Standing::Idle;
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => command,
                None => tokio::select! {
                    command = self.commands.recv() => match command {
                        Some(command) => command,
                        None => return,
                    },
                    due = due(&self.world, &self.key, &standing) => {
                        standing = self.on_due(standing, due).await;
                        continue;
                    }
                },
            };
            (standing, next) = match command {
                Command::Resume(generation, phase) => self.resume(generation, phase).await,
                Command::Start(generation) => self.begin(standing, generation).await,
                Command::Reboot(generation) => self.reboot(standing, generation).await,
                Command::Stop => (self.stop(standing).await, None),
                Command::Console => {
                    self.send_console(&standing);
                    (standing, None)
                }
            };
        }
    }

    fn told(&self, happened: Happened) {
        // Nobody listens when the agent ends.
        let _ = self.tell.send(happened);
    }

    /// Finds what an agent before this one has left, and goes on from there.
    async fn resume(&mut self, generation: u32, phase: Phase) -> (Standing, Option<Command>) {
        if phase == Phase::LetGo {
            let ended: Option<Ended> = self.dir.read("ended.json").ok().flatten();
            if let Some(ended) = ended.filter(|ended| ended.generation == generation) {
                let Ended { generation, reason } = ended;
                self.told(Happened::Ended(self.key.clone(), generation, reason));
            }
            return (self.stop(Standing::Idle).await, None);
        }
        loop {
            match self.adopt(generation, phase).await {
                Ok(Some(running)) => {
                    info!(instance = %self.key.instance_id, "found");
                    if phase == Phase::Starting {
                        self.told(Happened::Started(self.key.clone(), generation));
                    }
                    return (Standing::Runs(running), None);
                }
                Ok(None) if phase == Phase::Starting && self.is_late(generation) => {
                    let reason = "its host was not there before its deadline";
                    let reason = Reason::new(code::LAUNCH_TIMEOUT, reason);
                    self.end(Standing::Idle).await;
                    self.is_over(generation, reason);
                    return (Standing::Idle, None);
                }
                Ok(None) => return self.begin(Standing::Idle, generation).await,
                // What may run is not given up because it cannot be seen just now.
                Err(why) => warn!(instance = %self.key.instance_id, %why, "cannot be looked at"),
            }
            tokio::select! {
                command = self.commands.recv() => return (Standing::Idle, command),
                () = sleep(AGAIN) => {}
            }
        }
    }

    fn is_late(&self, generation: u32) -> bool {
        let order: Option<Order> = self.dir.read("order.json").ok().flatten();
        order.is_some_and(|order| order.generation == generation && now() > order.deadline)
    }

    /// The instance as an agent before this one has left it: running, or ended since. One that has run
    /// and of which nothing is left has ended with its machine.
    async fn adopt(
        &mut self,
        generation: u32,
        phase: Phase,
    ) -> Result<Option<Box<Running>>, String> {
        let text = |error: std::io::Error| error.to_string();
        let kept = Kept::find(&self.dir).map_err(text)?;
        let run: Option<Run> = self.dir.read("run.json").map_err(text)?;
        let exit: Option<Exit> = self.dir.read("exit.json").map_err(text)?;
        let runs = kept.is_some() && run.is_some_and(|run| run.generation == generation);
        let has_ended = kept.is_none()
            && (phase == Phase::Running || exit.is_some_and(|exit| exit.generation == generation));
        let order: Option<Order> = self.dir.read("order.json").map_err(text)?;
        let plan: Option<Plan> = self.dir.read("plan.json").map_err(text)?;
        let facts: Option<KeptFacts> = self.dir.read("facts.json").map_err(text)?;
        let (Some(order), Some(plan), Some(facts)) = (order, plan, facts) else { return Ok(None) };
        let generations = [order.generation, plan.generation, facts.generation];
        if !(runs || has_ended) || generations != [generation; 3] {
            return Ok(None);
        }
        // What runs is not ended because something around it is not as it was.
        if let Err(why) = place::network_up(&self.world, &self.key, &order.launch).await {
            warn!(instance = %self.key.instance_id, %why, "its network may not be whole");
        }
        let service = Service::go_on(&self.world, Arc::new(facts.facts), plan.metadata);
        Ok(Some(Box::new(Running { order, plan, kept, service })))
    }

    /// Starts a generation, in the place of whatever stands.
    async fn begin(&mut self, standing: Standing, generation: u32) -> (Standing, Option<Command>) {
        match standing {
            Standing::Idle => {}
            other => drop(self.end(other).await),
        }
        let (why, reason) = match self.start(generation).await {
            Ok(running) => {
                self.told(Happened::Started(self.key.clone(), generation));
                return (Standing::Runs(running), None);
            }
            Err(NotStarted::Overtaken(command)) => return (Standing::Idle, command),
            Err(NotStarted::Because(why)) => {
                let message = format!("{} could not start it: {why}", self.world.config.host_id);
                (why, Reason::new(code::INTERNAL, message))
            }
        };
        warn!(instance = %self.key.instance_id, generation, %why, "not started");
        // Letting go is a promise: what the start has left is ended first.
        self.end(Standing::Idle).await;
        self.is_over(generation, reason);
        (Standing::Idle, None)
    }

    async fn start(&mut self, generation: u32) -> Result<Box<Running>, NotStarted> {
        let order: Option<Order> = self.dir.read("order.json")?;
        let order = order.filter(|order| order.generation == generation);
        let order = order.ok_or_else(|| "its order was not written down".to_owned())?;
        let facts = self.facts(&order).await?;
        place::network_up(&self.world, &self.key, &order.launch).await?;
        let service = Service::start(&self.world, facts)?;
        let (plan, kept) = self.run_program(&order, &service, 0).await?;
        Ok(Box::new(Running { order, plan, kept: Some(kept), service }))
    }

    /// What the instance is to know: as it was written down, or as the plane says, which is asked until
    /// it answers, for so long as nothing else is ordered and the deadline allows.
    async fn facts(&mut self, order: &Order) -> Result<Arc<InstanceFacts>, NotStarted> {
        let kept: Option<KeptFacts> = self.dir.read("facts.json")?;
        if let Some(kept) = kept.filter(|kept| kept.generation == order.generation) {
            return Ok(Arc::new(kept.facts));
        }
        let world = self.world.clone();
        let key = self.key.clone();
        let mut asking = pin!(ask_until_told(&world, &key, order));
        let details = loop {
            tokio::select! {
                details = &mut asking => break details?,
                command = self.commands.recv() => match command {
                    // There is none yet.
                    Some(Command::Console) => {}
                    command => return Err(NotStarted::Overtaken(command)),
                },
            }
        };
        self.keep_facts(order, details).map_err(NotStarted::from)
    }

    fn keep_facts(&self, order: &Order, details: Details) -> Result<Arc<InstanceFacts>, String> {
        let launch = order.launch.clone();
        let facts = InstanceFacts { key: self.key.clone(), launch, details };
        let kept = KeptFacts { generation: order.generation, facts };
        self.dir.write("facts.json", &kept).map_err(|error| error.to_string())?;
        Ok(Arc::new(kept.facts))
    }

    /// Runs its program beside its metadata service.
    async fn run_program(
        &self,
        order: &Order,
        service: &Service,
        crashes: u32,
    ) -> Result<(Plan, Kept), String> {
        // What a killed agent may have left of another run, or a start that was given up.
        self.nothing_runs().await.map_err(|error| error.to_string())?;
        let facts = service.facts();
        let plan = tokio::task::block_in_place(|| {
            place::place(&self.world, &self.dir, order, &facts, service.address, crashes)
        })?;
        self.dir.write("plan.json", &plan).map_err(|error| error.to_string())?;
        let kept = Kept::start(&self.world.keeper, &self.dir).await?;
        Ok((plan, kept))
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.world.config.restart.stop_grace_ms)
    }

    /// Something is due of itself: an end, a restart, or fresh credentials.
    async fn on_due(&mut self, standing: Standing, due: Due) -> Standing {
        match (standing, due) {
            (Standing::Runs(mut running), Due::Details(details)) => {
                let kept = details.and_then(|details| self.keep_facts(&running.order, *details));
                if let Err(why) = &kept {
                    warn!(instance = %self.key.instance_id, %why, "its credentials are not fresh");
                }
                running.service.refreshed(kept.ok());
                Standing::Runs(running)
            }
            (Standing::Runs(running), _) => self.on_exit(running).await,
            (Standing::Waits(_, running), _) => self.again(running).await,
            (Standing::Idle, _) => Standing::Idle,
        }
    }

    /// Its program has ended: what becomes of it, the policy says.
    async fn on_exit(&mut self, mut running: Box<Running>) -> Standing {
        running.kept = None;
        let generation = running.order.generation;
        let exit: Option<Exit> = self.dir.read("exit.json").ok().flatten();
        let end = match exit.filter(|exit| exit.generation == generation) {
            // Somebody has ended it, as a machine that shuts down does: it has not ended itself.
            Some(Exit { was_told_to: true, .. }) | None => End::Unseen,
            Some(Exit { code: Some(code), .. }) => End::Code(code),
            Some(Exit { signal, .. }) => End::Signal(signal.unwrap_or_default()),
        };
        let ran_ms = now().since(Millis(running.plan.planned_at));
        match restart::after(end, ran_ms, running.plan.crashes, &self.world.config.restart) {
            Next::Again { wait_ms, crashes } => {
                info!(instance = %self.key.instance_id, ?end, wait_ms, crashes, "starts again");
                running.plan.crashes = crashes;
                Standing::Waits(Instant::now() + Duration::from_millis(wait_ms), running)
            }
            Next::Over(reason) => {
                self.end(Standing::Runs(running)).await;
                self.is_over(generation, reason);
                Standing::Idle
            }
        }
    }

    /// It is not started again: written down before it is told, so that an agent that comes after
    /// knows why.
    fn is_over(&self, generation: u32, reason: Reason) {
        let ended = Ended { generation, reason };
        if let Err(error) = self.dir.write("ended.json", &ended) {
            warn!(instance = %self.key.instance_id, %error, "why it ended is not written down");
        }
        self.told(Happened::Ended(self.key.clone(), generation, ended.reason));
    }

    /// Starts what has run once more. It is not let go of because its host has trouble: it is tried
    /// again, ever more seldom.
    async fn again(&mut self, mut running: Box<Running>) -> Standing {
        let crashes = running.plan.crashes;
        match self.run_program(&running.order, &running.service, crashes).await {
            Ok((plan, kept)) => {
                (running.plan, running.kept) = (plan, Some(kept));
                Standing::Runs(running)
            }
            Err(why) => {
                let wait_ms = self.world.config.restart.wait_ms(crashes);
                warn!(instance = %self.key.instance_id, %why, wait_ms, "could not be started again");
                running.plan.crashes = crashes.saturating_add(1);
                Standing::Waits(Instant::now() + Duration::from_millis(wait_ms), running)
            }
        }
    }

    async fn reboot(&mut self, standing: Standing, generation: u32) -> (Standing, Option<Command>) {
        let mut running = match standing {
            Standing::Runs(running) | Standing::Waits(_, running) => running,
            Standing::Idle => return (Standing::Idle, None),
        };
        if running.order.generation != generation {
            return (Standing::Runs(running), None);
        }
        running.kept = None;
        running.plan.crashes = 0;
        (self.again(running).await, None)
    }

    /// Ends what runs. Says so only when nothing is left, however long that takes.
    async fn stop(&mut self, standing: Standing) -> Standing {
        let standing = self.end(standing).await;
        self.told(Happened::Stopped(self.key.clone()));
        standing
    }

    async fn end(&mut self, standing: Standing) -> Standing {
        let running = match standing {
            Standing::Idle => None,
            Standing::Runs(running) | Standing::Waits(_, running) => Some(running),
        };
        loop {
            match self.nothing_is_to_run().await {
                Ok(()) => break,
                Err(error) => {
                    warn!(instance = %self.key.instance_id, %error, "not stopped yet");
                    sleep(AGAIN).await;
                }
            }
        }
        if let Some(running) = running {
            self.send_console_of(running.order.generation);
        }
        place::network_down(&self.world, &self.key).await;
        Standing::Idle
    }

    /// Ends what runs, whoever has started it.
    async fn nothing_runs(&self) -> std::io::Result<()> {
        while let Some(kept) = Kept::find(&self.dir)? {
            kept.stop(self.grace()).await;
        }
        sweep(&self.dir, &self.key.instance_id).await
    }

    /// The same, and a keeper that was started and has not come to itself yet finds no plan.
    async fn nothing_is_to_run(&self) -> std::io::Result<()> {
        self.nothing_runs().await?;
        self.dir.remove("plan.json")?;
        self.nothing_runs().await
    }

    fn send_console(&self, standing: &Standing) {
        if let Standing::Runs(running) | Standing::Waits(_, running) = standing {
            self.send_console_of(running.order.generation);
        }
    }

    /// Sends the newest output, beside all else.
    fn send_console_of(&self, generation: u32) {
        let (world, key, dir) = (self.world.clone(), self.key.clone(), self.dir.clone());
        tokio::spawn(async move {
            let (text, at) = (dir.console(CONSOLE_BYTES_MAX), now().0);
            for wait_s in CONSOLE_TRIES_S {
                match world.link.console(&key, generation, &text, at).await {
                    Ok(()) => return,
                    Err(why) => {
                        warn!(instance = %key.instance_id, %why, "its output was not taken")
                    }
                }
                sleep(Duration::from_secs(wait_s)).await;
            }
        });
    }
}

/// What is due of itself.
enum Due {
    /// A program has ended, or is to be started again.
    Now,
    /// What the plane says of an instance whose credentials were to be replaced.
    Details(Result<Box<Details>, String>),
}

/// Waits until something is due.
async fn due(world: &World, key: &InstanceKey, standing: &Standing) -> Due {
    match standing {
        Standing::Idle => pending().await,
        Standing::Waits(until, _) => {
            sleep_until(*until).await;
            Due::Now
        }
        Standing::Runs(running) => {
            let Some(kept) = &running.kept else { return Due::Now };
            let refresh = async {
                sleep_until(running.service.stale_at()).await;
                world.link.details(key, running.order.generation).await.map(Box::new)
            };
            tokio::select! {
                () = kept.ended() => Due::Now,
                details = refresh => Due::Details(details),
            }
        }
    }
}

/// Asks the plane what an instance is to know until it says so, for as long as the deadline allows.
async fn ask_until_told(
    world: &World,
    key: &InstanceKey,
    order: &Order,
) -> Result<Details, String> {
    let mut wait_ms = ASK_AGAIN_MS.0;
    loop {
        match world.link.details(key, order.generation).await {
            Ok(details) => return Ok(details),
            Err(why) if now() > order.deadline => {
                return Err(format!("nobody says what it is to know: {why}"));
            }
            Err(why) => warn!(instance = %key.instance_id, %why, "its details are missing"),
        }
        sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(ASK_AGAIN_MS.1);
    }
}
