//! Go's duration syntax: `1h2m3.5s`, `100ms`, `0`, `-1.5h`, and how Go prints one.

/// Nanoseconds.
pub(crate) type Nanos = i64;

pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Reads a duration as Go's `time.ParseDuration` does.
pub(crate) fn parse(text: &str) -> Result<Nanos, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(bad());
        }
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit_text, next) = after.split_at(unit_len);
        if unit_text.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let unit = unit_nanos(unit_text)
            .ok_or_else(|| format!("time: unknown unit {unit_text:?} in duration {text:?}"))?;
        total += scaled(whole, fraction, unit).ok_or_else(bad)?;
        if total > i128::from(i64::MAX) {
            return Err(bad());
        }
        rest = next;
    }
    let total = i64::try_from(total).map_err(|_| bad())?;
    Ok(if negative { -total } else { total })
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction * unit`, cut to whole nanoseconds.
fn scaled(whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        total += i128::from(digit - b'0') * scale;
    }
    Some(total)
}

/// Prints a duration as Go's `Duration.String` does: `1m0s`, `1.5s`, `100ms`, `0s`.
#[must_use]
pub fn format(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let body = match n {
        0..1_000 => format!("{n}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(n, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(n, 1_000_000)),
        _ => {
            let seconds = decimal(n % 60_000_000_000, 1_000_000_000);
            match (n / 3_600_000_000_000, n / 60_000_000_000 % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    format!("{sign}{body}")
}

/// `n / unit` with as many decimals as needed.
fn decimal(n: u64, unit: u64) -> String {
    let (whole, fraction) = (n / unit, n % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Nanos = 1_000_000;

    #[test]
    fn parses_what_go_parses() {
        for (text, nanos) in [
            ("0", 0),
            ("100ms", 100 * MILLISECOND),
            ("1h2m3.5s", 3723 * SECOND + 500 * MILLISECOND),
            ("1.5h", 5400 * SECOND),
            (".5s", 500 * MILLISECOND),
            ("5\u{b5}s", 5_000),
            ("-10s", -10 * SECOND),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        assert_eq!(parse("foo").unwrap_err(), "time: invalid duration \"foo\"");
        assert_eq!(parse("10").unwrap_err(), "time: missing unit in duration \"10\"");
        assert_eq!(parse("1d").unwrap_err(), "time: unknown unit \"d\" in duration \"1d\"");
        for text in ["", "-", ".s", "1.2.3s", "9999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prints_as_go_prints_and_reads_it_back() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (100 * MILLISECOND, "100ms"),
            (SECOND, "1s"),
            (61 * SECOND, "1m1s"),
            (7200 * SECOND, "2h0m0s"),
            (-90 * SECOND, "-1m30s"),
        ] {
            assert_eq!(format(nanos), text);
            assert_eq!(parse(text), Ok(nanos));
        }
    }
}
