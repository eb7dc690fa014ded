//! Too little of what a process needs: processor, memory, descriptors.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::counter::read_counter;
use super::kernel::{SoftLimit, descriptors, processor_time, status_bytes};
use super::poison::beginning_of_send;
use super::process::names;
use super::{Bite, Fault, Field, Step};
use crate::mesh::object::{Chaos, Pods};
use crate::mesh::{Counterpart, Reason, Setting};
use crate::must;

/// All brokers run for a part of each period only, as under a quota of the kernel.
///
/// Stopping and continuing them is what quotas do, too, and needs no rights on a control group.
pub struct StarvedProcessor {
    share: f64,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    began: Option<(Instant, Duration)>,
    term: u64,
}

/// The quota's period: what the kernel takes for control groups.
const PERIOD: Duration = Duration::from_millis(100);

impl StarvedProcessor {
    /// Each broker runs for this share of the time, 0 to 1.
    pub fn new(share: f64) -> Self {
        Self { share, stop: CancellationToken::new(), tasks: JoinSet::new(), began: None, term: 0 }
    }

    fn used(field: &Field) -> anyhow::Result<Duration> {
        let pids = (0..field.cluster.size()).filter_map(|broker| field.cluster.pid(broker));
        pids.map(processor_time).sum()
    }
}

impl Fault for StarvedProcessor {
    fn name(&self) -> &'static str {
        "starved-processor"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "share": self.share, "period_ms": PERIOD.as_millis() as u64 })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            let all: Vec<usize> = (0..field.cluster.size()).collect();
            Ok(names(field, &all))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            self.term = field.cluster.term().await?;
            self.began = Some((Instant::now(), Self::used(field)?));
            let runs = PERIOD.mul_f64(self.share);
            let size = field.cluster.size() as u32;
            for broker in 0..size {
                let pid = field.cluster.pid(broker as usize).context("a broker is down")?;
                let pid = Pid::from_raw(pid.cast_signed()).context("no process id")?;
                let stop = self.stop.clone();
                self.tasks.spawn(async move {
                    // Not all at the same moment: that would be one slow clock for all.
                    tokio::time::sleep(PERIOD * broker / size).await;
                    while !stop.is_cancelled() && kill_process(pid, Signal::STOP).is_ok() {
                        tokio::time::sleep(PERIOD - runs).await;
                        kill_process(pid, Signal::CONT).ok();
                        tokio::time::sleep(runs).await;
                    }
                });
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            self.stop.cancel();
            // Each ends in the part of its period in which its broker runs.
            while self.tasks.join_next().await.is_some() {}
            field.cluster.ensure_alive()?;
            let (began, before) = self.began.context("it has not begun")?;
            let used = Self::used(field)?.saturating_sub(before);
            let each = used.as_secs_f64() / field.cluster.size() as f64;
            let seconds = began.elapsed().as_secs_f64();
            let share = each / seconds;
            let terms = field.cluster.term().await?.saturating_sub(self.term);
            // An election that is lost for lack of time calls for the next: it must not go on so.
            must!(terms as f64 <= seconds, "{terms} terms in {seconds:.1} s");
            let evidence =
                format!("each broker had {:.1} % of a processor; {terms} new terms", 100.0 * share);
            // Who does not use what it is left does not lack any.
            Ok(match share > 0.5 * self.share {
                true => Bite::Bit(evidence),
                false => Bite::Missed(evidence),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        Ok(Counterpart::of(setting, [Chaos::busy_processor(Pods::Brokers, 16)])
            .but("Processes compete with the brokers for the processor; nobody has a quota."))
    }
}

impl Drop for StarvedProcessor {
    fn drop(&mut self) {
        // A task that is ended between its two signals leaves a stopped process, which the cluster
        // kills when it is dropped.
        self.stop.cancel();
    }
}

/// The leader may have little more memory than it has, and gets a request that needs much.
#[derive(Default)]
pub struct StarvedMemory {
    broker: usize,
    request: Option<TcpStream>,
}

/// What the leader may have beyond what it has.
const SPARE_BYTES: u64 = 16 << 20;
/// What the request says that it has. Below the limit of a request, which is refused at once.
const REQUEST_BYTES: u32 = 120 << 20;
/// How long a process without memory may go on.
const END_LIMIT: Duration = Duration::from_secs(5);

impl Fault for StarvedMemory {
    fn name(&self) -> &'static str {
        "starved-memory"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({
            "target": "leader",
            "spare_bytes": SPARE_BYTES,
            "request_bytes": REQUEST_BYTES,
        })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.broker = field.cluster.leader().await?;
            Ok(names(field, &[self.broker]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let pid = field.cluster.pid(self.broker).context("it is down")?;
            // A limit ends with the process, and this process must end: nothing to lift.
            SoftLimit::set(pid, "as", status_bytes(pid, "VmSize")? + SPARE_BYTES).map(drop)?;
            let address = &field.cluster.client_addresses()[self.broker];
            let mut request = TcpStream::connect(address).await?;
            request.write_all(&beginning_of_send(REQUEST_BYTES)).await?;
            self.request = Some(request);
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            self.request = None;
            let begin = Instant::now();
            let mut ended = field.cluster.ended(self.broker)?;
            while ended.is_none() && begin.elapsed() < END_LIMIT {
                tokio::time::sleep(Duration::from_millis(50)).await;
                ended = field.cluster.ended(self.broker)?;
            }
            let Some(status) = ended else {
                // It found all it needs in what it had.
                field.cluster.kill(self.broker)?;
                field.cluster.restart(self.broker)?;
                return Ok(Bite::Missed("the process went on with what it had".to_owned()));
            };
            must!(!status.success(), "it ended as if nothing had been");
            field.cluster.restart(self.broker)?;
            field.cluster.caught_up(self.broker).await?;
            let (request, spare) = (REQUEST_BYTES >> 20, SPARE_BYTES >> 20);
            Ok(Bite::Bit(format!(
                "a request of {request} MiB and {spare} MiB of memory: it ended, {status}"
            )))
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        Ok(Counterpart::ending(setting, [Chaos::full_memory(Pods::Leader, "90%")])
            .but("Another process takes the memory; no request needs it."))
    }
}

/// The leader may open no more files or connections than it has.
pub struct StarvedDescriptors {
    broker: usize,
    pid: u32,
    limit: Option<SoftLimit>,
    knocking: Vec<TcpStream>,
    began: Option<(Instant, f64)>,
    log_bytes: usize,
}

/// Connections that are tried at each port while there is no descriptor left.
const KNOCKS: usize = 20;
/// Failed accepts a second above which an accept loop spins. Three loops that wait between two of them,
/// 10 ms at first and then longer, have less, and one that spins has thousands, on a busy machine too.
const FAILURES_PER_S_MAX: f64 = 200.0;
/// What a process that can not go on ends with (docs: exit codes).
const STORAGE_FAILED: i32 = 70;

impl StarvedDescriptors {
    /// Of the leader.
    pub fn new() -> Self {
        Self { broker: 0, pid: 0, limit: None, knocking: Vec::new(), began: None, log_bytes: 0 }
    }
}

impl Default for StarvedDescriptors {
    fn default() -> Self {
        Self::new()
    }
}

impl Fault for StarvedDescriptors {
    fn name(&self) -> &'static str {
        "starved-descriptors"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "target": "leader", "knocks": KNOCKS })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.broker = field.cluster.leader().await?;
            Ok(names(field, &[self.broker]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            self.pid = field.cluster.pid(self.broker).context("it is down")?;
            self.log_bytes = field.cluster.log_of(self.broker)?.len();
            let address = &field.cluster.http_address(self.broker);
            let before = read_counter(address, "raftmq_accept_errors_total").await?;
            self.began = Some((Instant::now(), before));
            let open = descriptors(self.pid)? as u64;
            self.limit = Some(SoftLimit::set(self.pid, "nofile", open)?);
            let cluster = &field.cluster;
            let ports =
                [cluster.client_addresses(), cluster.peer_addresses(), cluster.admin_addresses()];
            for address in ports.iter().map(|addresses| &addresses[self.broker]) {
                for _ in 0..KNOCKS {
                    // The kernel takes it, the process can not; or it has ended by now, which is
                    // judged at the end.
                    let Ok(connection) = TcpStream::connect(address).await else { break };
                    self.knocking.push(connection);
                }
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let (began, before) = self.began.context("it has not begun")?;
            let limit = self.limit.take().context("it has not begun")?;
            let name = field.cluster.name(self.broker).to_owned();
            let log = field.cluster.log_of(self.broker)?;
            let complaints = log[self.log_bytes..].matches("could not accept").count();
            if let Some(status) = field.cluster.ended(self.broker)? {
                must!(
                    status.code() == Some(STORAGE_FAILED),
                    "{name} had no descriptors and ended with {status}"
                );
                field.cluster.restart(self.broker)?;
                return Ok(Bite::Bit(format!("it could not open a file of its log: {status}")));
            }
            limit.lift()?;
            let elapsed = began.elapsed();
            let address = &field.cluster.http_address(self.broker);
            let failures = read_counter(address, "raftmq_accept_errors_total").await? - before;
            let rate = failures / elapsed.as_secs_f64();
            must!(rate < FAILURES_PER_S_MAX, "{name} spins: {rate:.0} failed accepts a second");
            self.knocking.clear();
            // All its ports must answer again, to others as well.
            field.cluster.caught_up(self.broker).await?;
            let evidence =
                format!("{complaints} accepts failed and were logged, {rate:.1} a second failed");
            Ok(match complaints {
                0 => Bite::Missed(evidence),
                _ => Bite::Bit(evidence),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh sets no limits of processes")
    }
}
