//! Carries packets between TUN devices, as the matrix says.
//!
//! One thread reads from every device, draws the fate of each packet, and hands it to the device of
//! its destination, at once or when its time has come.
//!
//! Invariants: the matrix is asked anew for each packet, when it comes and when it leaves, so that a
//! cut link also loses what is on its way; memory for delayed packets is bounded for each link.
//!
//! Not here: what is not IPv4 or not for a host of this network; it disappears, uncounted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, PipeReader, PipeWriter};
use std::net::Ipv4Addr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::fate::{Damage, Fates};
use super::link::{Matrix, View};
use super::packet;
use super::schedule::Schedule;
use super::tun::Tun;

/// The longest packet of IPv4.
const PACKET_BYTES_MAX: usize = 65_535;
/// Packets read from one device before the others get their turn.
const BATCH: usize = 32;
/// "Nice" value: a wire does not get slower when the hosts are busy.
const PRIORITY: i32 = -10;
/// Of delayed packets, for each link.
const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where one host is connected.
pub(super) struct Port {
    pub address: Ipv4Addr,
    pub tun: Tun,
}

/// The running switch. It stops when this is dropped, and the devices go with it.
pub(super) struct Switch {
    /// Its end is the sign to stop.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts to carry packets; ports are in the order of the hosts of the matrix.
    pub fn start(ports: Vec<Port>, matrix: Matrix, seed: u64) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let mut traffic = Traffic::new(matrix, seed);
        let thread = thread::Builder::new().name("net-switch".to_owned()).spawn(move || {
            // Of this thread only. Without the right to it, delays are less exact on a busy
            // machine.
            let _refused = rustix::process::setpriority_process(None, PRIORITY);
            traffic.run(&ports, &stopped);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the packet switch panicked");
        }
    }
}

/// What the thread knows.
struct Traffic {
    matrix: Matrix,
    view: View,
    links: Vec<LinkState>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Of the latest packet that was put into `waiting`.
    order: u64,
}

/// One directed link.
struct LinkState {
    fates: Fates,
    schedule: Schedule,
    waiting_bytes: usize,
    /// Number of the latest packet that came, from 1.
    came: u64,
    /// The highest number among those that left.
    left: u64,
}

/// A packet that leaves later. Sorted by when it leaves, then by when it came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Instant,
    order: u64,
    route: Route,
    bytes: Vec<u8>,
}

/// Which packet of which link, and to which port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    link: usize,
    to: usize,
    number: u64,
}

impl Traffic {
    fn new(matrix: Matrix, seed: u64) -> Self {
        let link = |index| LinkState {
            fates: Fates::new(seed, index),
            schedule: Schedule::default(),
            waiting_bytes: 0,
            came: 0,
            left: 0,
        };
        let links = (0..matrix.size()).map(link).collect();
        Self { view: matrix.view(), matrix, links, waiting: BinaryHeap::new(), order: 0 }
    }

    fn run(&mut self, ports: &[Port], stopped: &PipeReader) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        // A device that failed stays readable for ever.
        let mut open: Vec<usize> = (0..ports.len()).collect();
        loop {
            let timeout = self.send_due(ports);
            let devices = open.iter().map(|place| PollFd::new(&ports[*place].tun, PollFlags::IN));
            let mut ready: Vec<PollFd<'_>> =
                devices.chain([PollFd::new(stopped, PollFlags::IN)]).collect();
            match poll(&mut ready, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    eprintln!("the packet switch stops: {error}");
                    return;
                }
            }
            let mut ready = ready.iter().map(|fd| !fd.revents().is_empty());
            let mut failed = Vec::new();
            for place in &open {
                if ready.next() == Some(true)
                    && let Err(error) = self.receive(ports, *place, &mut buffer)
                {
                    eprintln!("the device of {} failed: {error}", self.matrix.hosts()[*place]);
                    failed.push(*place);
                }
            }
            if ready.next() == Some(true) {
                return;
            }
            open.retain(|place| !failed.contains(place));
        }
    }

    /// Takes what a host has sent.
    fn receive(&mut self, ports: &[Port], from: usize, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            let Some(length) = ports[from].tun.receive(buffer)? else { break };
            let packet = &mut buffer[..length];
            let destination = packet::destination(packet);
            let to = ports.iter().position(|port| Some(port.address) == destination);
            if let Some(to) = to.filter(|to| *to != from) {
                self.accept(ports, from, to, packet);
            }
        }
        Ok(())
    }

    /// Decides what becomes of a packet.
    fn accept(&mut self, ports: &[Port], from: usize, to: usize, packet: &mut [u8]) {
        let index = self.matrix.index_of(from, to);
        let quality = self.view.quality(index);
        let counters = self.matrix.counters(index);
        let link = &mut self.links[index];
        counters.offered_packets.increment();
        counters.offered_bytes.add(packet.len() as u64);
        link.came += 1;
        // Drawn in any case: the fate of a packet is a matter of its number.
        let fate = link.fates.draw(&quality);
        if !quality.up {
            counters.dropped_cut.increment();
            return;
        }
        if fate.lost {
            counters.dropped_loss.increment();
            return;
        }
        let now = Instant::now();
        if link.schedule.full(now, &quality) {
            counters.dropped_overflow.increment();
            return;
        }
        if let Some(damage) = fate.damage
            && packet::damage(packet, damage, fate.damaged_bit)
        {
            match damage {
                Damage::Wire => counters.corrupted.increment(),
                Damage::Checked => counters.corrupted_checked.increment(),
            }
        }
        let route = Route { link: index, to, number: link.came };
        let at = link.schedule.departure(now, &quality, &fate, packet.len());
        if fate.duplicated {
            counters.duplicated.increment();
            self.leave(ports, route, packet, at, now);
        }
        self.leave(ports, route, packet, at, now);
    }

    /// Sends a packet now or puts it aside.
    fn leave(&mut self, ports: &[Port], route: Route, packet: &[u8], at: Instant, now: Instant) {
        if at <= now {
            self.send(ports, route, packet);
            return;
        }
        let link = &mut self.links[route.link];
        let counters = self.matrix.counters(route.link);
        if link.waiting_bytes + packet.len() > WAITING_BYTES_MAX {
            counters.dropped_overflow.increment();
            return;
        }
        link.waiting_bytes += packet.len();
        counters.delayed.increment();
        self.order += 1;
        let waiting = Waiting { at, order: self.order, route, bytes: packet.to_vec() };
        self.waiting.push(Reverse(waiting));
    }

    /// Sends what is due. Returns how long until the next is.
    fn send_due(&mut self, ports: &[Port]) -> Option<Timespec> {
        while let Some(Reverse(next)) = self.waiting.peek() {
            let wait = next.at.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Some(timespec(wait));
            }
            let Some(Reverse(due)) = self.waiting.pop() else { break };
            let index = due.route.link;
            self.links[index].waiting_bytes -= due.bytes.len();
            if self.view.quality(index).up {
                self.send(ports, due.route, &due.bytes);
            } else {
                self.matrix.counters(index).dropped_cut.increment();
            }
        }
        None
    }

    fn send(&mut self, ports: &[Port], route: Route, packet: &[u8]) {
        let counters = self.matrix.counters(route.link);
        if ports[route.to].tun.send(packet).is_err() {
            counters.dropped_undeliverable.increment();
            return;
        }
        counters.forwarded_packets.increment();
        counters.forwarded_bytes.add(packet.len() as u64);
        let link = &mut self.links[route.link];
        if route.number < link.left {
            counters.reordered.increment();
        }
        link.left = link.left.max(route.number);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
