//! Who is at the other end of a connection, where all hosts share one address: told by the process
//! that holds the socket.
//!
//! `/proc/net/tcp` names the socket of a pair of addresses, and `/proc/<pid>/fd` who holds it. Both
//! can be read without root for processes of the same user.

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The process of each host, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Residents(Arc<Mutex<HashMap<String, u32>>>);

impl Residents {
    /// From now on this process is the host.
    pub fn note(&self, host: &str, pid: u32) {
        self.lock().insert(host.to_owned(), pid);
    }

    /// The host whose process has connected from `near` to `far`. None: it is nobody's, so a client's.
    /// Reads files; not for a thread that others wait for.
    pub(super) fn who(&self, near: SocketAddr, far: SocketAddr) -> Option<String> {
        let (SocketAddr::V4(near), SocketAddr::V4(far)) = (near, far) else { return None };
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let inode = inode(&table, near, far)?;
        let residents = self.lock().clone();
        residents.into_iter().find(|(_, pid)| holds(*pid, inode)).map(|(host, _)| host)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inode of a socket, in the text of `/proc/net/tcp`. A socket that nobody holds has none.
fn inode(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u64> {
    let wanted = [hexadecimal(local), hexadecimal(remote)];
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_it = words.by_ref().skip(1).take(2).eq(wanted.iter().map(String::as_str));
        // State, queues, timer, retransmissions, user and time-out lie between.
        if is_it { words.nth(6)?.parse().ok() } else { None }
    };
    table.lines().find_map(of_line).filter(|inode| *inode != 0)
}

/// As the kernel prints it: the address as a number in the byte order of the machine.
fn hexadecimal(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

fn holds(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|it| it == Path::new(&wanted))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_told_by_who_holds_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, far) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let residents = Residents::default();
        assert_eq!(residents.who(near, far), None);
        residents.note("broker-1", std::process::id());
        assert_eq!(residents.who(near, far).as_deref(), Some("broker-1"));
        drop(stream);
        assert_eq!(residents.who(near, far), None);
    }

    #[test]
    fn sockets_without_an_owner_are_nobodys() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 0100007F:4E21 01 00000000:00000000 00:00000000 00000000     0        0 77 1 0
   1: 0100007F:4E22 0100007F:4E21 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0";
        let (local, other) = ("127.0.0.1:20000", "127.0.0.1:20002");
        let remote: SocketAddrV4 = "127.0.0.1:20001".parse().unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(inode(table, local.parse().unwrap(), remote), Some(77));
            assert_eq!(inode(table, other.parse().unwrap(), remote), None);
        }
        assert_eq!(inode(table, remote, local.parse().unwrap()), None);
    }
}
