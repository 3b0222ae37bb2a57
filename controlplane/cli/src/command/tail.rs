//! `tail`: live logs on stdout, one record a line, with the author's files and lines in stacks; with `--json` the records as JSON.

use model::LogRecord;

use crate::args::Target;
use crate::context::Context;
use crate::failure::Outcome;
use crate::logs::{self, Listener};
use crate::maps::Maps;
use crate::output::{Ink, Output, printable};

/// Prints records up to a limit.
struct Printer<'a> {
    output: Output,
    maps: Maps<'a>,
    left: Option<u64>,
    name: String,
}

impl Listener for Printer<'_> {
    fn opened(&mut self) {
        self.output.note(&format!("Following the logs of {}; Ctrl-C ends it.", self.name));
    }

    fn record(&mut self, record: LogRecord) {
        print(&self.output, &self.maps.mapped(record));
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }

    fn stop(&self) -> bool {
        self.left == Some(0)
    }
}

/// The command. Ctrl-C ends it as it ends any program.
pub(crate) fn tail(context: &Context, target: &Target, limit: Option<u64>) -> Outcome {
    let (client, deployment) = context.deployment(target)?;
    let (output, maps) = (context.output, Maps::new(&client, deployment.id));
    let mut printer = Printer { output, maps, left: limit, name: printable(&deployment.name) };
    logs::follow(&client, deployment.id, &mut printer)
}

/// Prints one record on stdout.
pub(crate) fn print(output: &Output, record: &LogRecord) {
    if output.json {
        output.line(&serde_json::to_string(record).expect("a log record serialises to JSON"));
        return;
    }
    if record.dropped > 0 {
        output.note(&format!("({} records were dropped)", record.dropped));
    }
    output.line(&line(output, record));
}

fn line(output: &Output, record: &LogRecord) -> String {
    let ink = match record.level.as_str() {
        "error" | "exception" => Ink::Red,
        "warn" => Ink::Yellow,
        "debug" => Ink::Dim,
        _ => Ink::Cyan,
    };
    let time = record.timestamp.to_string();
    // 2025-01-15T10:00:00.007Z: the day is known to who is watching.
    let time = time.get(11..23).unwrap_or(&time);
    format!(
        "{} {} {}",
        output.ink(Ink::Dim, &format!("{time} v{}", record.version_number)),
        output.ink(ink, &format!("{:<5}", printable(&record.level))),
        printable(&record.message)
    )
}

#[cfg(test)]
mod tests {
    use model::{DeploymentId, Timestamp};

    use super::*;
    use crate::output::Colour;

    #[test]
    fn a_record_is_one_line_without_the_tenants_escape_sequences() {
        let record = LogRecord {
            timestamp: Timestamp::from_unix_ms(1_736_935_200_007),
            node: "n1".into(),
            deployment_id: DeploymentId::new(),
            version_number: 4,
            level: "info".into(),
            message: "GET /\x1b[2J".into(),
            request: None,
            dropped: 0,
        };
        let output = Output::new(false, Colour::Never);
        assert_eq!(line(&output, &record), "10:00:00.007 v4 info  GET /\u{fffd}[2J");
    }
}
