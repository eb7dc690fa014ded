//! Numbers as people read them.

/// `0.412 s`, `12.3 s`.
pub(super) fn seconds(time_ns: u64) -> String {
    let seconds = time_ns as f64 / 1e9;
    if seconds < 10.0 { format!("{seconds:.3} s") } else { format!("{seconds:.1} s") }
}

/// `412 ms`, `4.12 s`, `41.2 s`.
pub(super) fn millis(time_ms: u64) -> String {
    match time_ms {
        0..1000 => format!("{time_ms} ms"),
        1000..10_000 => format!("{:.2} s", time_ms as f64 / 1000.0),
        _ => format!("{:.1} s", time_ms as f64 / 1000.0),
    }
}

/// `0.41 ms`, `41.2 ms`, `4.12 s`.
pub(super) fn micros(time_us: u64) -> String {
    match time_us {
        0..10_000 => format!("{:.2} ms", time_us as f64 / 1000.0),
        10_000..1_000_000 => format!("{:.1} ms", time_us as f64 / 1000.0),
        _ => format!("{:.2} s", time_us as f64 / 1e6),
    }
}

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 fault`, `2 faults`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A figure: whole numbers without a fraction.
pub(super) fn figure(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        let sign = if number < 0.0 { "-" } else { "" };
        format!("{sign}{}", count(number.abs() as u64))
    } else {
        let digits = if number.abs() < 100.0 { 6 } else { 1 };
        let text = format!("{number:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// `2026-11-22T21:33:05Z`.
pub(super) fn utc(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of the year 0, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_day_in_leap_years_and_others() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199_999), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_794_000_000_000), "2026-11-06T21:20:00Z");
    }

    #[test]
    fn numbers() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(figure(-1234.0), "-1,234");
        assert_eq!(figure(0.25), "0.25");
        assert_eq!(figure(0.99992), "0.99992");
        assert_eq!(millis(412), "412 ms");
        assert_eq!(millis(4120), "4.12 s");
    }
}
