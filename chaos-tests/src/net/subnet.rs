//! Claims a private /24 that nobody else on this machine uses.
//!
//! The claim is the TUN device of the root namespace itself: its name is made of the subnet, and the
//! kernel gives a name to one process only, until that ends.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use anyhow::{Context, bail};

use super::tun::Tun;

/// 10.200.0.0 to 10.249.255.0.
const SECOND_OCTETS: std::ops::Range<u32> = 200..250;

/// A claimed /24.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    second: u8,
    third: u8,
}

impl Subnet {
    /// Claims one; `start` says where to look first. Returns it with the device that holds it.
    pub fn claim(start: u32) -> anyhow::Result<(Self, Tun)> {
        let routes = routes().context("could not read the routes of this machine")?;
        let count = SECOND_OCTETS.len() as u32 * 256;
        for number in (0..count).map(|step| start.wrapping_add(step) % count) {
            let second = (SECOND_OCTETS.start + number / 256) as u8;
            let subnet = Self { second, third: (number % 256) as u8 };
            let address = u32::from(subnet.address(0));
            if routes.iter().any(|(network, mask)| address & mask == *network) {
                continue;
            }
            match Tun::open(&subnet.device()) {
                Ok(tun) => return Ok((subnet, tun)),
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
                Err(error) => return Err(error).context("could not make a TUN device"),
            }
        }
        bail!("no private network of 256 addresses is free")
    }

    /// Name of the device of the root namespace.
    pub fn device(self) -> String {
        format!("rmq-{}-{}", self.second, self.third)
    }

    /// An address in it.
    pub fn address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, last)
    }
}

/// Networks with a route in the main table, with their masks; without routes to (nearly) everywhere.
fn routes() -> anyhow::Result<Vec<(u32, u32)>> {
    let table = std::fs::read_to_string("/proc/net/route")?;
    let number = |field: Option<&str>| -> Option<u32> {
        // Printed as a number of this machine, whose bytes are those of the address.
        Some(u32::from_be_bytes(u32::from_str_radix(field?, 16).ok()?.to_ne_bytes()))
    };
    let entries = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((number(fields.nth(1))?, number(fields.nth(5))?))
    });
    Ok(entries.filter(|(_, mask)| mask.leading_ones() >= 8).collect())
}
