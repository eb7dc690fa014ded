//! Makes faults happen, one after the other, and takes them back.

use std::sync::Arc;
use std::time::Duration;

use raftmq_raft_store::world::draw;
use raftmq_raft_store::world::net;
use raftmq_raft_store::world::net::Quality;
use raftmq_raft_store::world::trace;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::cluster::Death;
use crate::plan::Fault;

/// How long a node that lost its disk may take to become a voter before other faults go on.
const REJOIN: Duration = Duration::from_secs(60);

/// Faults until the time of the plan is over; all are taken back at the end. Returns how many.
pub async fn torment(cluster: Arc<Cluster>) -> u64 {
    let until = Instant::now() + cluster.plan.chaos;
    let mut count = 0;
    while Instant::now() < until {
        let (low, high) = cluster.plan.between_faults_ms;
        tokio::time::sleep(Duration::from_millis(draw().between(low, high))).await;
        let kinds = &cluster.plan.faults;
        let fault = kinds[draw().between(0, kinds.len() as u64 - 1) as usize];
        trace::note(format_args!("fault {fault:?}"));
        happen(&cluster, fault).await;
        count += 1;
    }
    for node_id in cluster.ids() {
        let plan = &cluster.plan;
        cluster.disk(node_id).set_faults(|faults| {
            faults.flush_us = plan.flush_us;
            faults.crash_at_change = None;
            faults.fail_flush = None;
        });
        if let Some(process) = cluster.process(node_id) {
            process.set_clock_wrong_ms(0);
            process.resume();
        }
    }
    healthy_links(&cluster);
    count
}

/// Every link as the plan has it.
pub fn healthy_links(cluster: &Cluster) {
    each_link(cluster, |from, to| {
        net::set_quality(from, to, Quality { delay_us: cluster.plan.delay_us, lost_permille: 0 });
        net::set_cut(from, to, false);
    });
}

fn each_link(cluster: &Cluster, change: impl Fn(u64, u64)) {
    for from in cluster.ids() {
        for to in cluster.ids().filter(|to| *to != from) {
            change(from, to);
        }
    }
}

/// Some node; the leader half of the time.
fn some_node(cluster: &Cluster) -> u64 {
    let any = draw().between(1, cluster.plan.node_count);
    let leader = cluster.leader();
    if draw().once_in(2) { leader.unwrap_or(any) } else { any }
}

async fn lasting(cluster: &Cluster) {
    let (low, high) = cluster.plan.fault_ms;
    tokio::time::sleep(Duration::from_millis(draw().between(low, high))).await;
}

fn down(low_ms: u64, high_ms: u64) -> Duration {
    Duration::from_millis(draw().between(low_ms, high_ms))
}

async fn happen(cluster: &Cluster, fault: Fault) {
    let node_id = some_node(cluster);
    let disk = cluster.disk(node_id);
    match fault {
        Fault::Kill => {
            let death = Death { down: down(10, 2000), ..Death::default() };
            cluster.kill(node_id, death, "killed");
        }
        Fault::PowerCut => {
            let death = Death { power_lost: true, down: down(100, 3000), ..Death::default() };
            cluster.arrange(node_id, death);
            // Within the next changes; a disk that is idle dies at once.
            disk.set_faults(|faults| faults.crash_at_change = Some(draw().between(1, 40)));
            tokio::time::sleep(down(50, 1500)).await;
            if disk.faults().crash_at_change.is_some() {
                cluster.kill(node_id, death, "power cut");
            }
        }
        Fault::PowerCutAll => {
            for node_id in cluster.ids() {
                let death = Death { power_lost: true, down: down(100, 1500), ..Death::default() };
                cluster.kill(node_id, death, "power cut of all");
            }
        }
        Fault::Pause => {
            if let Some(process) = cluster.process(node_id) {
                process.pause();
                lasting(cluster).await;
                process.resume();
            }
        }
        Fault::CutOff => {
            let ways = draw().between(0, 2);
            for other in cluster.ids().filter(|other| *other != node_id) {
                net::set_cut(node_id, other, ways != 1);
                net::set_cut(other, node_id, ways != 2);
            }
            lasting(cluster).await;
            healthy_links(cluster);
        }
        Fault::Split => {
            let side: Vec<bool> = cluster.ids().map(|_| draw().once_in(2)).collect();
            each_link(cluster, |from, to| {
                net::set_cut(from, to, side[from as usize - 1] != side[to as usize - 1]);
            });
            lasting(cluster).await;
            healthy_links(cluster);
        }
        Fault::BadLinks => {
            let high = draw().between(1_000, 80_000);
            let lost_permille = draw().between(0, 100);
            let quality = Quality { delay_us: (cluster.plan.delay_us.0, high), lost_permille };
            each_link(cluster, |from, to| {
                if draw().once_in(2) {
                    net::set_quality(from, to, quality);
                }
            });
            lasting(cluster).await;
            healthy_links(cluster);
        }
        Fault::SlowDisk => {
            disk.set_faults(|faults| faults.flush_us = (10_000, 200_000));
            lasting(cluster).await;
            disk.set_faults(|faults| faults.flush_us = cluster.plan.flush_us);
        }
        Fault::HungDisk => {
            disk.set_faults(|faults| faults.hangs = true);
            lasting(cluster).await;
            disk.set_faults(|faults| faults.hangs = false);
        }
        Fault::FailedFlush => {
            // The process ends itself; its host goes on, or loses power soon after.
            let power_lost = draw().once_in(2);
            let death = Death { power_lost, down: down(100, 1000), ..Death::default() };
            cluster.arrange(node_id, death);
            disk.set_faults(|faults| faults.fail_flush = Some(draw().between(1, 20)));
            lasting(cluster).await;
            disk.set_faults(|faults| faults.fail_flush = None);
        }
        Fault::Transfer => {
            if let Some((process, broker)) = cluster.node(node_id) {
                let group = broker.group();
                let hand_over = process.run(async move { group.transfer_leader(None).await });
                // A refusal is an outcome like any other.
                let _ = tokio::time::timeout(Duration::from_secs(6), hand_over).await;
            }
        }
        Fault::Clock => {
            if let Some(process) = cluster.process(node_id) {
                process.set_clock_wrong_ms(draw().between(0, 4000) as i64 - 2000);
            }
        }
        Fault::Away => {
            let death = Death { down: down(5_000, 15_000), ..Death::default() };
            cluster.kill(node_id, death, "away for long");
        }
        Fault::Damage | Fault::EmptyDisk => lose_disk(cluster, node_id, fault).await,
    }
}

/// A disk may be lost only while all others are well: two at once are a loss that nobody survives.
async fn lose_disk(cluster: &Cluster, node_id: u64, fault: Fault) {
    if !settled(cluster, Duration::from_secs(10)).await {
        return;
    }
    let empty = fault == Fault::EmptyDisk;
    let death = Death { damage: !empty, empty, down: down(10, 500), ..Death::default() };
    cluster.kill(node_id, death, "its disk is lost");
    tokio::time::sleep(Duration::from_secs(1)).await;
    settled(cluster, REJOIN).await;
}

async fn settled(cluster: &Cluster, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        let voters = cluster.ids().all(|node_id| {
            let node = cluster.node(node_id);
            node.is_some_and(|(_, broker)| broker.group().status().membership == "voter")
        });
        if voters && cluster.leader().is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
