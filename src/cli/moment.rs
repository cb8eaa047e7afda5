//! Moments as people write them: dates, times, and how long ago.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp, ZonedDateTime};

/// A stretch of time in milliseconds since 1970, both ends included: a day as a whole, or one
/// instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The first millisecond.
    pub first: i64,
    /// The last millisecond.
    pub last: i64,
}

impl Moment {
    fn at(timestamp: Timestamp) -> Self {
        let milliseconds = timestamp.as_millisecond();
        Self { first: milliseconds, last: milliseconds }
    }

    fn day(date: Date, now: &ZonedDateTime) -> Option<Self> {
        let start =
            |date: Date| Some(date.to_zoned_datetime(now.time_zone().clone()).ok()?.timestamp());
        let next = start(date.tomorrow().ok()?)?;
        Some(Self { first: start(date)?.as_millisecond(), last: next.as_millisecond() - 1 })
    }

    /// Reads a moment; times without an offset are those of this machine's clock.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_at(text.trim(), &ZonedDateTime::now()).ok_or_else(|| {
            "write a time as 2026-05-01, 2026-05-01T12:30, 2026-05-01T12:30:00+02:00, today, \
             yesterday, \"2 days ago\", or @SECONDS since 1970"
                .to_owned()
        })
    }

    fn parse_at(text: &str, now: &ZonedDateTime) -> Option<Self> {
        match text {
            "now" => return Some(Self::at(now.timestamp())),
            "today" => return Self::day(now.date(), now),
            "yesterday" => return Self::day(now.date().yesterday().ok()?, now),
            _ => {}
        }
        if let Some(seconds) = text.strip_prefix('@') {
            return Some(Self::at(Timestamp::from_second(seconds.parse().ok()?).ok()?));
        }
        if let Ok(timestamp) = text.parse::<Timestamp>() {
            return Some(Self::at(timestamp));
        }
        // A date parses as midnight, and a time as its date: which it is shows in the colon.
        if text.contains(':')
            && let Ok(time) = text.parse::<DateTime>()
        {
            return Some(Self::at(
                time.to_zoned_datetime(now.time_zone().clone()).ok()?.timestamp(),
            ));
        }
        if let Ok(date) = text.parse::<Date>() {
            return Self::day(date, now);
        }
        let span = text.parse::<Span>().ok()?.abs();
        Some(Self::at(now.checked_sub(span).ok()?.timestamp()))
    }
}

/// A time in milliseconds since 1970 as this machine's clock shows it, to the second.
pub fn shown(milliseconds: i64) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(timestamp) => {
            let local = timestamp.to_zoned_datetime(jiff::tz::TimeZone::system());
            local.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        // Beyond the year 9999, or before -9999.
        Err(_) => format!("@{}", milliseconds / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(i64, i64)> {
        let now: ZonedDateTime = "2026-05-10T12:00:00+02:00[Europe/Berlin]".parse().ok()?;
        Moment::parse_at(text, &now).map(|m| (m.first / 1000, m.last / 1000))
    }

    #[test]
    fn instants_are_exact_and_days_are_whole() {
        let noon = 1_778_407_200;
        assert_eq!(parse("now"), Some((noon, noon)));
        assert_eq!(parse("2026-05-10T12:00"), Some((noon, noon)));
        assert_eq!(parse("2026-05-10 12:00:00"), Some((noon, noon)));
        assert_eq!(parse("2026-05-10T10:00:00Z"), Some((noon, noon)));
        assert_eq!(parse("2026-05-10T12:00:00+02:00"), Some((noon, noon)));
        assert_eq!(parse("@1778407200"), Some((noon, noon)));
        let today = (noon - 12 * 3600, noon + 12 * 3600 - 1);
        assert_eq!(parse("today"), Some(today));
        assert_eq!(parse("2026-05-10"), Some(today));
        assert_eq!(parse("yesterday"), Some((today.0 - 86_400, today.1 - 86_400)));
        // The day on which clocks go forward has 23 hours.
        let spring = parse("2026-03-29").unwrap();
        assert_eq!(spring.1 - spring.0, 23 * 3600 - 1);
    }

    #[test]
    fn spans_count_back_from_now() {
        let noon = 1_778_407_200;
        assert_eq!(parse("2 days ago"), Some((noon - 172_800, noon - 172_800)));
        assert_eq!(parse("3h"), Some((noon - 10_800, noon - 10_800)));
        assert_eq!(parse("90 minutes"), Some((noon - 5400, noon - 5400)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "soon", "2026-13-01", "2026-05-32", "12:30", "@x", "@99999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(Moment::parse("soon").unwrap_err().contains("2 days ago"));
    }
}
