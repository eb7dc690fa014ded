//! Reads quantities from options: durations, times, rates, and `key=value`.

use std::time::Duration;
use std::time::SystemTime;

use raftmq_proto::raftmq::Start;
use raftmq_proto::raftmq::start::Kind;

/// `500ms`, `10s`, `5m`, `2h` or `3d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration, write it like 500ms, 10s, 5m, 2h or 3d");
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// A point in time, RFC 3339.
pub fn time(text: &str) -> Result<SystemTime, String> {
    let wrong = || format!("{text:?} is not a time, write it like 2026-01-31T10:00:00Z");
    let timestamp: prost_types::Timestamp = text.parse().map_err(|_| wrong())?;
    SystemTime::try_from(timestamp).map_err(|_| wrong())
}

/// `first`, `last`, or a point in time: the first message stored then or later.
pub fn position(text: &str) -> Result<Start, String> {
    let (kind, timestamp_ms) = match text {
        "first" => (Kind::First, 0),
        "last" => (Kind::Last, 0),
        time => (
            Kind::Timestamp,
            since_1970_ms(self::time(time).map_err(|_| {
                format!(
                    "{text:?} is not a place, write first, last or a time like 2026-01-31T10:00:00Z"
                )
            })?)?,
        ),
    };
    Ok(Start { kind: kind.into(), timestamp_ms })
}

/// Milliseconds since 1970, which must be later.
pub fn since_1970_ms(time: SystemTime) -> Result<u64, String> {
    match time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_millis()) {
        Ok(ms @ 1..) => u64::try_from(ms).map_err(|error| error.to_string()),
        Ok(0) | Err(_) => Err("a time must be after 1970".to_owned()),
    }
}

/// `100/s`.
pub fn rate(text: &str) -> Result<u32, String> {
    match text.strip_suffix("/s").map(str::parse) {
        Some(Ok(rate @ 1..)) => Ok(rate),
        _ => Err(format!("{text:?} is not a rate, write it like 100/s")),
    }
}

/// `key=value`, split at the first `=`.
pub fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a property, write key=value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("3d"), Ok(Duration::from_secs(3 * 86_400)));
        for wrong in ["", "10", "s", "1.5s", "10 s", "99999999999999999999d", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        let ms = |text| since_1970_ms(time(text).unwrap());
        assert_eq!(ms("2021-01-01T00:00:00Z"), Ok(1_609_459_200_000));
        assert_eq!(ms("2021-01-01T01:00:00.5+01:00"), Ok(1_609_459_200_500));
        for wrong in ["", "10s", "yesterday", "2021-13-01T00:00:00Z"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_is_an_end_or_a_time() {
        let place = |text| position(text).map(|start| (start.kind(), start.timestamp_ms));
        assert_eq!(place("first"), Ok((Kind::First, 0)));
        assert_eq!(place("last"), Ok((Kind::Last, 0)));
        assert_eq!(place("2021-01-01T00:00:00Z"), Ok((Kind::Timestamp, 1_609_459_200_000)));
        assert!(place("middle").unwrap_err().contains("write first, last or a time"));
        assert!(place("1960-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn rates_are_counted_by_the_second() {
        assert_eq!(rate("100/s"), Ok(100));
        for wrong in ["", "100", "0/s", "-1/s", "/s", "1/m"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn properties_may_contain_an_equals_sign() {
        assert_eq!(property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(property("a="), Ok(("a".to_owned(), String::new())));
        assert!(property("=b").is_err());
        assert!(property("ab").is_err());
    }
}
