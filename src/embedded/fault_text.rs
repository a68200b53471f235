//! Faults as text, both ways. The syntax is documented in [`super::faults`].
//!
//! Invariant: what `Display` writes, `FromStr` reads as the same fault.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::faults::{Action, Fault, Select, Victim};
use super::operation::decode;

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let (select, action) = match text.rsplit_once(':') {
            Some((select, action)) => (select, action),
            None => ("", text),
        };
        let wrong = |what: String| format!("fault `{text}`: {what}");
        Ok(Fault {
            select: parse_select(select).map_err(wrong)?,
            action: parse_action(action.trim()).map_err(wrong)?,
        })
    }
}

fn parse_select(text: &str) -> Result<Select, String> {
    let mut select = Select::default();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.split_once('=') {
            Some(("op", name)) if !name.is_empty() => select.operation = Some(name.to_owned()),
            Some(("key", key)) => select.key = Some(decode(key)),
            Some(("n", range)) => (select.first, select.last) = parse_range(range)?,
            _ => return Err(format!("`{part}` is none of op=NAME, key=TEXT, n=NUMBERS")),
        }
    }
    Ok(select)
}

fn parse_range(text: &str) -> Result<(u64, Option<u64>), String> {
    let number = |text: &str| match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("`{text}` is not a number from 1 on")),
    };
    match text.split_once("..") {
        None => number(text).map(|n| (n, Some(n))),
        Some((first, "")) => Ok((number(first)?, None)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(format!("the range `{text}` is empty"));
            }
            Ok((first, Some(last)))
        }
    }
}

fn parse_action(text: &str) -> Result<Action, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let needed = || value.ok_or_else(|| format!("`{name}` needs a value: `{name}=…`"));
    let error_body = |applied| Action::ErrorBody {
        code: value.unwrap_or("InternalError").to_owned(),
        applied,
    };
    let action = match name {
        "delay" => Action::Delay(parse_duration(needed()?)?),
        "error" => parse_error(needed()?)?,
        "ok-with-error-body" => error_body(false),
        "applied-error-body" => error_body(true),
        "trickle" => Action::Trickle(parse_bytes(needed()?)?),
        "kill-before" => Action::KillBefore(parse_victim(needed()?)?),
        "kill-after" => Action::KillAfter(parse_victim(needed()?)?),
        _ if value.is_some() => {
            return Err(format!("unknown action `{text}`, or one without a value"));
        }
        "throttle" => Action::Error {
            status: 503,
            code: Some("SlowDown".to_owned()),
        },
        "drop-before" => Action::DropBefore,
        "drop-after" => Action::DropAfter,
        "short-body" => Action::ShortBody,
        "hang-before" => Action::HangBefore,
        "hang-after" => Action::HangAfter,
        "hold-before" => Action::HoldBefore,
        "hold-after" => Action::HoldAfter,
        _ => return Err(format!("unknown action `{text}`")),
    };
    Ok(action)
}

fn parse_error(text: &str) -> Result<Action, String> {
    let (status, code) = match text.split_once('/') {
        Some((status, code)) => (status, Some(code.to_owned())),
        None => (text, None),
    };
    match status.parse() {
        Ok(status @ 300..=599) => Ok(Action::Error { status, code }),
        _ => Err(format!("`{status}` is not an HTTP status from 300 to 599")),
    }
}

fn parse_victim(text: &str) -> Result<Victim, String> {
    match text.parse() {
        Ok(pid @ 2..) => Ok(Victim::Pid(pid)),
        _ if text == "target" => Ok(Victim::Target),
        _ => Err(format!(
            "`{text}` is neither the number of a process nor `target`"
        )),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 150ms, 2s or 1m");
    let at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number of bytes such as 10, 64K or 1M");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(operation) = &self.select.operation {
            parts.push(format!("op={operation}"));
        }
        if let Some(key) = &self.select.key {
            let key = key
                .replace('%', "%25")
                .replace(',', "%2C")
                .replace(':', "%3A");
            parts.push(format!("key={key}"));
        }
        match (self.select.first, self.select.last) {
            (1, None) => {}
            (first, None) => parts.push(format!("n={first}..")),
            (first, Some(last)) if first == last => parts.push(format!("n={first}")),
            (first, Some(last)) => parts.push(format!("n={first}..{last}")),
        }
        if !parts.is_empty() {
            write!(f, "{}:", parts.join(","))?;
        }
        write!(f, "{}", self.action)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Delay(time) if time.subsec_nanos() == 0 => {
                write!(f, "delay={}s", time.as_secs())
            }
            Action::Delay(time) if time.subsec_nanos() % 1_000_000 == 0 => {
                write!(f, "delay={}ms", time.as_millis())
            }
            Action::Delay(time) => write!(f, "delay={}us", time.as_secs_f64() * 1e6),
            Action::Error { status, code: None } => write!(f, "error={status}"),
            Action::Error {
                status,
                code: Some(code),
            } => write!(f, "error={status}/{code}"),
            Action::DropBefore => f.write_str("drop-before"),
            Action::DropAfter => f.write_str("drop-after"),
            Action::ErrorBody {
                code,
                applied: false,
            } => write!(f, "ok-with-error-body={code}"),
            Action::ErrorBody {
                code,
                applied: true,
            } => write!(f, "applied-error-body={code}"),
            Action::Trickle(rate) => write!(f, "trickle={rate}"),
            Action::ShortBody => f.write_str("short-body"),
            Action::HangBefore => f.write_str("hang-before"),
            Action::HangAfter => f.write_str("hang-after"),
            Action::HoldBefore => f.write_str("hold-before"),
            Action::HoldAfter => f.write_str("hold-after"),
            Action::KillBefore(victim) => write!(f, "kill-before={victim}"),
            Action::KillAfter(victim) => write!(f, "kill-after={victim}"),
        }
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Victim::Pid(pid) => write!(f, "{pid}"),
            Victim::Target => f.write_str("target"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_survives_the_way_through_text() {
        let every = Select::default();
        let third = Select {
            operation: Some("GetObject".into()),
            key: Some("a,b:c%2C=d".into()),
            first: 3,
            last: Some(3),
        };
        for (text, select, action) in [
            (
                "n=3,op=GetObject,key=a%2Cb%3Ac%252C=d:drop-before",
                &third,
                Action::DropBefore,
            ),
            ("drop-after", &every, Action::DropAfter),
            ("delay=2s", &every, Action::Delay(Duration::from_secs(2))),
            (
                "delay=1.5s",
                &every,
                Action::Delay(Duration::from_millis(1500)),
            ),
            ("delay=1m", &every, Action::Delay(Duration::from_secs(60))),
            (
                "delay=250us",
                &every,
                Action::Delay(Duration::from_micros(250)),
            ),
            (
                "error=500",
                &every,
                Action::Error {
                    status: 500,
                    code: None,
                },
            ),
            (
                "error=409/Busy",
                &every,
                Action::Error {
                    status: 409,
                    code: Some("Busy".into()),
                },
            ),
            (
                "throttle",
                &every,
                Action::Error {
                    status: 503,
                    code: Some("SlowDown".into()),
                },
            ),
            (
                "ok-with-error-body",
                &every,
                Action::ErrorBody {
                    code: "InternalError".into(),
                    applied: false,
                },
            ),
            (
                "applied-error-body=Late",
                &every,
                Action::ErrorBody {
                    code: "Late".into(),
                    applied: true,
                },
            ),
            ("trickle=64K", &every, Action::Trickle(65536)),
            ("short-body", &every, Action::ShortBody),
            ("hang-before", &every, Action::HangBefore),
            ("hang-after", &every, Action::HangAfter),
            ("hold-before", &every, Action::HoldBefore),
            ("hold-after", &every, Action::HoldAfter),
            (
                "kill-before=4711",
                &every,
                Action::KillBefore(Victim::Pid(4711)),
            ),
            (
                "kill-after=target",
                &every,
                Action::KillAfter(Victim::Target),
            ),
        ] {
            let fault = Fault {
                select: select.clone(),
                action,
            };
            assert_eq!(text.parse(), Ok(fault.clone()), "{text}");
            assert_eq!(fault.to_string().parse(), Ok(fault), "{text}");
        }
    }

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("n=4", (4, Some(4))),
            ("n=4..6", (4, Some(6))),
            ("n=4..", (4, None)),
        ] {
            let fault: Fault = format!("{text}:throttle").parse().unwrap();
            assert_eq!((fault.select.first, fault.select.last), expected);
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "unknown action"),
            ("explode", "unknown action"),
            ("drop-before=3", "unknown action"),
            ("n=0:throttle", "not a number"),
            ("n=3..2:throttle", "empty"),
            ("n=..3:throttle", "not a number"),
            ("what=x:throttle", "none of"),
            ("op=:throttle", "none of"),
            ("delay", "needs a value"),
            ("delay=2", "not a duration"),
            ("delay=-1s", "not a duration"),
            ("delay=1e300h", "not a duration"),
            ("error=200", "not an HTTP status"),
            ("error=abc", "not an HTTP status"),
            ("trickle=0", "not a number of bytes"),
            ("trickle=99999999999G", "not a number of bytes"),
            ("trickle=ü", "not a number of bytes"),
            ("kill-after=1", "neither"),
            ("kill-after=-1", "neither"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(
                error.contains(reason) && error.contains(text),
                "{text}: {error}"
            );
        }
    }
}
