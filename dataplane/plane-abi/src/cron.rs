//! Schedules as Cloudflare writes them: five fields, minute, hour, day of the month, month, day of the week, in UTC.
//!
//! | field | values | besides `*` `,` `-` `/` |
//! |---|---|---|
//! | minute | 0–59 | |
//! | hour | 0–23 | |
//! | day of the month | 1–31 | `L` the last, `L-3` three before it, `15W` the weekday nearest to the 15th, `LW`, `L-3W` |
//! | month | 1–12, `JAN`–`DEC` | |
//! | day of the week | 1–7 from Sunday, `SUN`–`SAT` | `L` Saturday, `6L` the last Friday, `2#1` the first Monday |
//!
//! As in Quartz and there: where both days are restricted either is enough; `5/10` is every tenth from 5 on; a range may wrap
//! (`22-2`). `W` stays within its month, and a month without that day has none.
//!
//! Pure: a time is whole minutes since the Unix epoch. *Bounds:* an expression of [`EXPRESSION_BYTES_MAX`] bytes;
//! [`Schedule::next_after`] looks at the days of nine years, within which every date comes.

use base::id::DeploymentId;
use std::fmt;
use std::str::FromStr;

/// An expression, bytes.
pub const EXPRESSION_BYTES_MAX: usize = 100;
const MINUTES_PER_DAY: u64 = 24 * 60;
/// Eight years can lie between two 29ths of February.
const DAYS_LOOKED_AT: u64 = 9 * 366;
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than [`EXPRESSION_BYTES_MAX`].
    #[error("it is longer than {EXPRESSION_BYTES_MAX} bytes")]
    TooLong,
    /// Not five fields.
    #[error("it has {0} fields where five are needed: minute, hour, day of the month, month, day of the week")]
    Fields(usize),
    /// A field that says nothing.
    #[error("its {field} {text:?} is not understood: {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// As written.
        text: String,
        /// What could be there.
        expected: String,
    },
    /// Such a date never comes.
    #[error("it names a date that never comes")]
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    Any,
    Set(u32),
    /// So many before the last.
    Last(u32),
    /// The weekday nearest to that.
    LastWeekday(u32),
    /// The weekday nearest to this.
    Weekday(u32),
}

/// Days of the week, from Sunday, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weekdays {
    Any,
    Set(u64),
    Last(u32),
    Nth(u32, u32),
}

/// When a Worker is to run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
    weekdays: Weekdays,
}

/// A field's values and what it is called.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", first: 1, last: 31, names: &[] };
const MONTH: Field = Field { name: "month", first: 1, last: 12, names: &MONTHS };
const WEEKDAY: Field = Field { name: "day of the week", first: 1, last: 7, names: &WEEKDAYS };

impl Field {
    fn value(&self, text: &str) -> Option<u32> {
        if let Some(at) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Some(self.first + at as u32);
        }
        number(text).filter(|value| (self.first..=self.last).contains(value))
    }

    /// One part of a list as bits from `first`.
    fn part(&self, text: &str) -> Option<u64> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| (1..=self.last).contains(step))?)),
            None => (text, None),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None if range == "*" => (self.first, self.last),
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.last } else { value })
            }
        };
        let count = self.last - self.first + 1;
        let length = (to + count - from) % count;
        let places = (0..=length).step_by(step.unwrap_or(1) as usize);
        Some(places.fold(0, |bits, place| bits | 1 << ((from - self.first + place) % count)))
    }

    fn set(&self, text: &str) -> Result<u64, CronError> {
        let set = text.split(',').try_fold(0, |bits, part| Some(bits | self.part(part)?));
        set.ok_or_else(|| self.refuse(text))
    }

    fn refuse(&self, text: &str) -> CronError {
        let names = if self.names.is_empty() {
            String::new()
        } else {
            format!(" or {} to {}", self.names[0], self.names[self.names.len() - 1])
        };
        let special = match self.name {
            "day of the month" => ", or one of L, L-n, nW, LW, L-nW",
            "day of the week" => ", or one of L, nL, n#m",
            _ => "",
        };
        let expected = format!("values are {} to {}{names}, with * , - /{special}", self.first, self.last);
        CronError::Field { field: self.name, text: text.to_owned(), expected }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn days(text: &str) -> Result<Days, CronError> {
    let offset = |text: &str| number(text).filter(|offset| (1..=30).contains(offset));
    let special = match (text, text.strip_prefix("L-"), text.strip_suffix('W')) {
        ("*", ..) => return Ok(Days::Any),
        ("L", ..) => Some(Days::Last(0)),
        ("LW", ..) => Some(Days::LastWeekday(0)),
        (_, Some(rest), _) => match rest.strip_suffix('W') {
            Some(rest) => offset(rest).map(Days::LastWeekday),
            None => offset(rest).map(Days::Last),
        },
        (_, _, Some(day)) => DAY.value(day).map(Days::Weekday),
        _ => return DAY.set(text).map(|set| Days::Set((set << 1) as u32)),
    };
    special.ok_or_else(|| DAY.refuse(text))
}

fn weekdays(text: &str) -> Result<Weekdays, CronError> {
    let day = |text: &str| WEEKDAY.value(text).map(|value| value - 1);
    let special = match (text, text.split_once('#')) {
        ("*", _) => return Ok(Weekdays::Any),
        ("L", _) => Some(Weekdays::Set(1 << 6)),
        (_, Some((of, nth))) => {
            day(of).zip(number(nth).filter(|nth| (1..=5).contains(nth))).map(|(of, nth)| Weekdays::Nth(of, nth))
        }
        _ => match text.strip_suffix('L').and_then(day) {
            Some(last) => Some(Weekdays::Last(last)),
            None => return WEEKDAY.set(text).map(Weekdays::Set),
        },
    };
    special.ok_or_else(|| WEEKDAY.refuse(text))
}

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Schedule, CronError> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(CronError::TooLong);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, of_month, months, of_week] = fields[..] else {
            return Err(CronError::Fields(fields.len()));
        };
        let schedule = Schedule {
            minutes: MINUTE.set(minutes)?,
            hours: HOUR.set(hours)?,
            days: days(of_month)?,
            months: MONTH.set(months)?,
            weekdays: weekdays(of_week)?,
        };
        // Any day to begin at will do: what comes, comes within nine years.
        schedule.next_after(0).map(|_| schedule).ok_or(CronError::Never)
    }
}

impl Schedule {
    /// Whether it is due in that minute.
    pub fn matches(&self, minute: u64) -> bool {
        let of_day = minute % MINUTES_PER_DAY;
        self.minutes >> (of_day % 60) & 1 == 1
            && self.hours >> (of_day / 60) & 1 == 1
            && self.matches_day(minute / MINUTES_PER_DAY)
    }

    /// The first minute after that one in which it is due.
    pub fn next_after(&self, minute: u64) -> Option<u64> {
        let from = minute.checked_add(1)?;
        let first_day = from / MINUTES_PER_DAY;
        for day in first_day..first_day.checked_add(DAYS_LOOKED_AT)? {
            if !self.matches_day(day) {
                continue;
            }
            let since = if day == first_day { from % MINUTES_PER_DAY } else { 0 };
            if let Some(of_day) = self.next_of_day(since) {
                return Some(day * MINUTES_PER_DAY + of_day);
            }
        }
        None
    }

    /// The first minute of a day, from that one on.
    fn next_of_day(&self, since: u64) -> Option<u64> {
        (since / 60..24).filter(|hour| self.hours >> hour & 1 == 1).find_map(|hour| {
            let from = if hour == since / 60 { since % 60 } else { 0 };
            let left = self.minutes >> from;
            (left != 0).then(|| hour * 60 + from + u64::from(left.trailing_zeros()))
        })
    }

    fn matches_day(&self, days: u64) -> bool {
        let date = Date::of(days);
        if self.months >> (date.month - 1) & 1 == 0 {
            return false;
        }
        match (self.days, self.weekdays) {
            (Days::Any, Weekdays::Any) => true,
            (Days::Any, weekdays) => date.is_weekday(weekdays),
            (days, Weekdays::Any) => date.is_day(days),
            (days, weekdays) => date.is_day(days) || date.is_weekday(weekdays),
        }
    }
}

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Date {
    month: u32,
    day: u32,
    /// Days of its month.
    length: u32,
    /// From Sunday, which is 0.
    weekday: u32,
}

impl Date {
    /// Of days since 1970-01-01: the calendar in eras of 400 years that begin in March.
    fn of(days: u64) -> Date {
        let since = days + 719_468;
        let of_era = since % 146_097;
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * from_march + 2) / 5 + 1) as u32;
        let month = (if from_march < 10 { from_march + 3 } else { from_march - 9 }) as u32;
        let year = since / 146_097 * 400 + year + u64::from(month <= 2);
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let length = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        Date { month, day, length, weekday: ((days + 4) % 7) as u32 }
    }

    fn is_day(&self, days: Days) -> bool {
        match days {
            Days::Any => true,
            Days::Set(set) => set >> self.day & 1 == 1,
            Days::Last(before) => self.day + before == self.length,
            Days::LastWeekday(before) => self.length.checked_sub(before).is_some_and(|day| self.is_nearest(day)),
            Days::Weekday(day) => self.is_nearest(day),
        }
    }

    /// Whether this is the weekday nearest to a day of its month.
    fn is_nearest(&self, to: u32) -> bool {
        if !(1..=self.length).contains(&to) {
            return false;
        }
        let weekday = (self.weekday + 35 + to - self.day) % 7;
        let nearest = match weekday {
            6 if to == 1 => to + 2,
            6 => to - 1,
            0 if to == self.length => to - 2,
            0 => to + 1,
            _ => to,
        };
        self.day == nearest
    }

    fn is_weekday(&self, weekdays: Weekdays) -> bool {
        match weekdays {
            Weekdays::Any => true,
            Weekdays::Set(set) => set >> self.weekday & 1 == 1,
            Weekdays::Last(weekday) => self.weekday == weekday && self.day + 7 > self.length,
            Weekdays::Nth(weekday, nth) => self.weekday == weekday && (self.day - 1) / 7 + 1 == nth,
        }
    }
}

/// What a schedule of a deployment is called where its owner is chosen: the same on every node, and spread well.
pub fn schedule_key(deployment: DeploymentId, expression: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(expression.as_bytes(), deployment.0 as u64 ^ (deployment.0 >> 64) as u64)
}

/// A minute as `2025-01-31T23:59Z`, for people.
pub fn show_minute(minute: u64) -> impl fmt::Display {
    let date = Date::of(minute / MINUTES_PER_DAY);
    // The year is not kept in a date: nothing else needs it.
    let mut year = 1970 + minute / MINUTES_PER_DAY / 366;
    while days_before(year + 1) <= minute / MINUTES_PER_DAY {
        year += 1;
    }
    let of_day = minute % MINUTES_PER_DAY;
    format!("{year:04}-{:02}-{:02}T{:02}:{:02}Z", date.month, date.day, of_day / 60, of_day % 60)
}

/// Days from 1970-01-01 to the first of January of a year.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn minute(text: &str) -> u64 {
        let part = |range: std::ops::Range<usize>| text[range].parse::<u64>().expect("digits");
        let (year, month, day) = (part(0..4), part(5..7) as u32, part(8..10) as u32);
        let first = days_before(year);
        let at = (first..first + 366).find(|days| {
            let date = Date::of(*days);
            (date.month, date.day) == (month, day)
        });
        at.expect("a date") * MINUTES_PER_DAY + part(11..13) * 60 + part(14..16)
    }

    fn check(expression: &str, after: &str, expect: &[&str]) {
        let schedule: Schedule = expression.parse().unwrap_or_else(|error| panic!("{expression}: {error}"));
        let mut at = minute(after);
        for expect in expect {
            at = schedule.next_after(at).expect("it comes");
            assert_eq!(show_minute(at).to_string(), *expect, "{expression} after {after}");
        }
    }

    #[test]
    fn cloudflares_own_examples() {
        // The table of "Cron Triggers", its days from Sunday = 1.
        check("* * * * *", "2025-03-01T00:00Z", &["2025-03-01T00:01Z", "2025-03-01T00:02Z"]);
        check("*/30 * * * *", "2025-03-01T00:00Z", &["2025-03-01T00:30Z", "2025-03-01T01:00Z"]);
        check("45 * * * *", "2025-03-01T00:45Z", &["2025-03-01T01:45Z"]);
        check("0 17 * * sun", "2025-03-01T00:00Z", &["2025-03-02T17:00Z", "2025-03-09T17:00Z"]);
        check("0 17 * * 1", "2025-03-01T00:00Z", &["2025-03-02T17:00Z"]);
        check("10 7 * * mon-fri", "2025-03-07T08:00Z", &["2025-03-10T07:10Z"]);
        check("10 7 * * 2-6", "2025-03-07T08:00Z", &["2025-03-10T07:10Z"]);
        check("0 15 1 * *", "2025-03-01T15:00Z", &["2025-04-01T15:00Z"]);
        check("0 18 * * 6L", "2025-03-01T00:00Z", &["2025-03-28T18:00Z", "2025-04-25T18:00Z"]);
        check("59 23 LW * *", "2025-05-01T00:00Z", &["2025-05-30T23:59Z", "2025-06-30T23:59Z"]);
    }

    #[test]
    fn days_of_quartz() {
        check("0 0 L * *", "2024-02-01T00:00Z", &["2024-02-29T00:00Z", "2024-03-31T00:00Z", "2024-04-30T00:00Z"]);
        check("0 0 L-2 2 *", "2025-01-01T00:00Z", &["2025-02-26T00:00Z"]);
        check("0 0 1W 2,3,6 *", "2025-01-01T00:00Z", &["2025-02-03T00:00Z", "2025-03-03T00:00Z", "2025-06-02T00:00Z"]);
        check("0 0 31W 5 *", "2025-01-01T00:00Z", &["2025-05-30T00:00Z"]);
        check("0 0 30W 11 *", "2025-01-01T00:00Z", &["2025-11-28T00:00Z"]);
        check("0 0 L-1W 11 *", "2025-01-01T00:00Z", &["2025-11-28T00:00Z"]);
        check("0 0 * * MON#2", "2025-03-01T00:00Z", &["2025-03-10T00:00Z", "2025-04-14T00:00Z"]);
        check("0 0 * * L", "2025-03-02T00:00Z", &["2025-03-08T00:00Z"]);
        check("0 0 13 * FRI", "2025-03-01T00:00Z", &["2025-03-07T00:00Z", "2025-03-13T00:00Z", "2025-03-14T00:00Z"]);
        check("0 0 29 2 *", "2096-02-29T00:00Z", &["2104-02-29T00:00Z"]);
        check("58-2/2 23-0 * * *", "2025-03-01T00:02Z", &["2025-03-01T00:58Z", "2025-03-01T23:00Z"]);
        check(
            "5/20 0 1 jan,DEC *",
            "2025-01-01T00:05Z",
            &["2025-01-01T00:25Z", "2025-01-01T00:45Z", "2025-12-01T00:05Z"],
        );
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        let refused = |text: &str| text.parse::<Schedule>().expect_err(text).to_string();
        for text in [
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 0",
            "* * * * 8",
            "*/0 * * * *",
            "*/60 * * * *",
            "1- * * * *",
            "-1 * * * *",
            "a * * * *",
            "1,,2 * * * *",
            ", * * * *",
            "* * L-31 * *",
            "* * 1L * *",
            "* * * * 2#6",
            "* * * * #1",
            "* * W * *",
            "+1 * * * *",
            "0001 * * * *",
            "\u{661} * * * *",
            "1/2/3 * * * *",
            "** * * * *",
        ] {
            let said = refused(text);
            assert!(said.contains("is not understood"), "{text}: {said}");
        }
        assert!(refused("* * * *").contains("4 fields"));
        assert!(refused("0 * * * * *").contains("6 fields"));
        assert!(refused("").contains("0 fields"));
        assert!(refused("* * 31 11 *").contains("never"));
        assert!(refused("* * 30 2 *").contains("never"));
        assert!(refused(&"1,".repeat(60)).contains("longer"));
        assert!(refused("99 * * * *").contains("minute \"99\""), "{}", refused("99 * * * *"));
    }

    #[test]
    fn dates_are_the_calendars() {
        for (days, date) in
            [(0, (1, 1, 31, 4)), (59, (3, 1, 31, 0)), (11_016, (2, 29, 29, 2)), (47_540, (2, 28, 28, 0))]
        {
            let Date { month, day, length, weekday } = Date::of(days);
            assert_eq!((month, day, length, weekday), date, "{days}");
        }
        assert_eq!(show_minute(0).to_string(), "1970-01-01T00:00Z");
        assert_eq!(show_minute(days_before(2000) * MINUTES_PER_DAY - 1).to_string(), "1999-12-31T23:59Z");
    }

    fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
        let value = first..=last;
        let part = prop_oneof![
            Just("*".to_owned()),
            value.clone().prop_map(|a| a.to_string()),
            (value.clone(), value.clone()).prop_map(|(a, b)| format!("{a}-{b}")),
            (value.clone(), 1..=last).prop_map(|(a, step)| format!("{a}/{step}")),
            (1..=last).prop_map(|step| format!("*/{step}")),
        ];
        prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","))
    }

    fn expression() -> impl Strategy<Value = String> {
        let special = prop_oneof![
            field(1, 31),
            Just("L".to_owned()),
            Just("LW".to_owned()),
            (1..=31u32).prop_map(|day| format!("{day}W")),
            (1..=30u32).prop_map(|before| format!("L-{before}W")),
        ];
        let of_week = prop_oneof![
            field(1, 7),
            (1..=7u32).prop_map(|day| format!("{day}L")),
            (1..=7u32, 1..=5u32).prop_map(|(day, nth)| format!("{day}#{nth}")),
        ];
        (field(0, 59), field(0, 23), special, field(1, 12), of_week)
            .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
    }

    proptest! {
        #[test]
        fn the_next_time_is_the_first_that_matches(text in expression(), at in 0u64..60_000_000) {
            prop_assume!(text.len() <= EXPRESSION_BYTES_MAX);
            if let Ok(schedule) = text.parse::<Schedule>() {
                let next = schedule.next_after(at).expect("it comes");
                prop_assert!(next > at && schedule.matches(next));
                let looked_at = at + 1..next.min(at + 3 * MINUTES_PER_DAY);
                prop_assert!(looked_at.into_iter().all(|minute| !schedule.matches(minute)), "{text} after {at}");
            }
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9*,/#LW -]{0,40}|.{0,20}") {
            let _ = text.parse::<Schedule>();
        }
    }
}
