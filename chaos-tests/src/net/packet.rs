//! The little of IPv4, TCP and UDP that a switch must know.
//!
//! | field | bytes |
//! |---|---|
//! | version, header length in words | 0 |
//! | total length | 2-3 |
//! | flags, fragment offset | 6-7 |
//! | protocol | 9 |
//! | destination | 16-19 |
//!
//! Not here: anything that routers do, such as counting down the time to live.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::fate::Damage;

const HEADER_BYTES_MIN: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// "More fragments" and the fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// Where a packet is going; `None` if it is not IPv4.
pub(super) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (packet.len() >= HEADER_BYTES_MIN && packet[0] >> 4 == 4).then(|| address.into())
}

/// Flips one bit of an IPv4 packet. Returns whether there was one that may flip: with
/// [`Damage::Checked`] only payload of TCP and UDP may, and not in fragments.
pub(super) fn damage(packet: &mut [u8], damage: Damage, bit: u32) -> bool {
    let header_bytes = usize::from(packet[0] & 0x0f) * 4;
    if header_bytes >= packet.len() {
        return false;
    }
    match damage {
        Damage::Wire => {
            let place = pick(header_bytes..packet.len(), bit);
            packet[place] ^= mask(bit);
            true
        }
        Damage::Checked => {
            let Some((payload, checksum)) = payload(packet, header_bytes) else { return false };
            let place = pick(payload, bit);
            // Checksums add words of 16 bits, counted from the begin of the segment, which is even.
            let word = place & !1;
            let before = read_word(packet, word);
            packet[place] ^= mask(bit);
            let after = read_word(packet, word);
            let sum = adjusted(read_word(packet, checksum), before, after);
            packet[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
            true
        }
    }
}

/// Where the payload is, not empty, and where the checksum is that covers it.
fn payload(packet: &[u8], header_bytes: usize) -> Option<(Range<usize>, usize)> {
    if read_word(packet, 6) & FRAGMENT_MASK != 0 {
        return None;
    }
    let (begin, checksum) = match packet[9] {
        TCP => {
            let words = packet.get(header_bytes + 12)? >> 4;
            (header_bytes + usize::from(words) * 4, header_bytes + 16)
        }
        UDP => (header_bytes + 8, header_bytes + 6),
        _ => return None,
    };
    (begin < packet.len()).then_some((begin..packet.len(), checksum))
}

/// A byte of the range, by the upper bits of the draw; the lowest three say which bit of it.
fn pick(range: Range<usize>, bit: u32) -> usize {
    range.start + (bit >> 3) as usize % range.len()
}

fn mask(bit: u32) -> u8 {
    1 << (bit & 7)
}

/// Two bytes, big-endian; behind the end of the packet there is zero.
fn read_word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet.get(at + 1).copied().unwrap_or(0)])
}

/// The checksum after one word has changed (RFC 1624, equation 3).
fn adjusted(checksum: u16, before: u16, after: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP or TCP packet from 10.0.0.1 to 10.0.0.2 with a right checksum of the segment.
    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let segment_header = if protocol == TCP { 20 } else { 8 };
        let total = HEADER_BYTES_MIN + segment_header + payload.len();
        let mut packet = vec![0; total];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        if protocol == TCP {
            packet[32] = 0x50;
        } else {
            packet[24..26].copy_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        }
        packet[total - payload.len()..].copy_from_slice(payload);
        let checksum = HEADER_BYTES_MIN + if protocol == TCP { 16 } else { 6 };
        let sum = !sum(&packet);
        packet[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// Of the pseudo header and the segment: 0xffff if the checksum in it is right.
    fn sum(packet: &[u8]) -> u16 {
        let segment = &packet[HEADER_BYTES_MIN..];
        let mut sum = u32::from(packet[9]) + segment.len() as u32;
        for part in [&packet[12..20], segment] {
            sum += (0..part.len()).step_by(2).map(|at| u32::from(read_word(part, at))).sum::<u32>();
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn flipped_bits(left: &[u8], right: &[u8]) -> u32 {
        left.iter().zip(right).map(|(left, right)| (left ^ right).count_ones()).sum()
    }

    #[test]
    fn checked_damage_keeps_the_checksum_right() {
        for protocol in [TCP, UDP] {
            for payload in [&b"x"[..], b"odd", b"even", &[0xff; 64]] {
                let original = packet(protocol, payload);
                assert_eq!(sum(&original), 0xffff);
                for bit in 0..1000 {
                    let mut damaged = original.clone();
                    assert!(damage(&mut damaged, Damage::Checked, bit));
                    assert_eq!(sum(&damaged), 0xffff);
                    let begin = original.len() - payload.len();
                    assert_eq!(flipped_bits(&original[begin..], &damaged[begin..]), 1);
                }
            }
        }
    }

    #[test]
    fn wire_damage_breaks_the_checksum_and_spares_the_address() {
        let original = packet(TCP, b"payload");
        for bit in 0..1000 {
            let mut damaged = original.clone();
            assert!(damage(&mut damaged, Damage::Wire, bit));
            assert_ne!(sum(&damaged), 0xffff);
            assert_eq!(flipped_bits(&original, &damaged), 1);
            assert_eq!(destination(&damaged), Some(Ipv4Addr::new(10, 0, 0, 2)));
        }
    }

    #[test]
    fn nothing_to_damage() {
        let mut empty = packet(TCP, b"");
        assert!(!damage(&mut empty, Damage::Checked, 5));
        let mut fragment = packet(UDP, b"payload");
        fragment[6] = 0x20;
        assert!(!damage(&mut fragment, Damage::Checked, 5));
        let mut header_only = packet(UDP, b"")[..HEADER_BYTES_MIN].to_vec();
        assert!(!damage(&mut header_only, Damage::Wire, 5));
        assert_eq!(destination(&[0x60; 40]), None);
        assert_eq!(destination(&[0x45; 8]), None);
    }
}
