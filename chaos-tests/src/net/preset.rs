//! Which directed links to cut for the partitions that are known by name.
//!
//! Each function returns links between the hosts it is given and touches no others: whether clients
//! are cut off too is decided by naming them or not.

use super::link::Link;

/// Cuts one host off from the others, both ways.
pub fn isolate(host: &str, others: &[&str]) -> Vec<Link> {
    let others: Vec<&str> = others.iter().copied().filter(|other| *other != host).collect();
    partition(&[&[host], &others])
}

/// Splits hosts into groups that do not reach each other. Inside a group nothing changes.
pub fn partition(groups: &[&[&str]]) -> Vec<Link> {
    let mut cut = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        for (other_number, other) in groups.iter().enumerate() {
            if number != other_number {
                cut.extend(one_way(group, other));
            }
        }
    }
    cut
}

/// Drops what `from` sends to `to`; what `to` sends arrives.
pub fn one_way(from: &[&str], to: &[&str]) -> Vec<Link> {
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
    pairs.filter(|(from, to)| from != to).map(|(from, to)| Link::new(from, to)).collect()
}

/// Two halves that do not reach each other, while one host, in neither, reaches both: it sees
/// everybody, and no majority of the others sees each other.
pub fn bridge(left: &[&str], bridge: &str, right: &[&str]) -> Vec<Link> {
    let without = |half: &[&str]| -> Vec<String> {
        half.iter().filter(|host| **host != bridge).map(|host| (*host).to_owned()).collect()
    };
    let (left, right) = (without(left), without(right));
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    let right: Vec<&str> = right.iter().map(String::as_str).collect();
    partition(&[&left, &right])
}

/// Each host reaches only the two beside it, the last being beside the first. With five hosts each
/// sees a majority, and no two see the same one. With fewer than four nothing is cut.
pub fn ring(hosts: &[&str]) -> Vec<Link> {
    let size = hosts.len();
    let mut cut = Vec::new();
    for (place, from) in hosts.iter().enumerate() {
        for (other_place, to) in hosts.iter().enumerate() {
            let distance = place.abs_diff(other_place);
            if distance.min(size - distance) > 1 {
                cut.push(Link::new(from, to));
            }
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HOSTS: [&str; 5] = ["a", "b", "c", "d", "e"];

    /// Whom each host still hears, in the order of `HOSTS`.
    fn heard(cut: &[Link]) -> Vec<String> {
        let cut: BTreeSet<&Link> = cut.iter().collect();
        let hears = |to: &str| -> String {
            let heard = HOSTS.iter().filter(|from| **from != to);
            heard.filter(|from| !cut.contains(&Link::new(from, to))).copied().collect()
        };
        HOSTS.iter().map(|to| hears(to)).collect()
    }

    #[test]
    fn each_leaves_the_links_it_should() {
        assert_eq!(heard(&isolate("b", &HOSTS)), ["cde", "", "ade", "ace", "acd"]);
        let halves = partition(&[&["a", "b"], &["c", "d", "e"]]);
        assert_eq!(heard(&halves), ["b", "a", "de", "ce", "cd"]);
        assert_eq!(heard(&one_way(&["a"], &["b", "c"])), ["bcde", "cde", "bde", "abce", "abcd"]);
        let bridged = bridge(&["a", "b"], "c", &["d", "e"]);
        assert_eq!(heard(&bridged), ["bc", "ac", "abde", "ce", "cd"]);
        assert_eq!(heard(&ring(&HOSTS)), ["be", "ac", "bd", "ce", "ad"]);
        assert!(ring(&HOSTS[..3]).is_empty());
    }
}
