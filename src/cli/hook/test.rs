//! `cove hook test`: the conformance kit for authors. It needs no daemon and touches none.

use std::path::{Path, PathBuf};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use serde::Serialize;

use crate::daemon::scratch;
use crate::hooks::kit::{KitCase, KitOptions, KitReport, KitVerdict, test};
use crate::report::Report;

use super::super::connect::paths;
use super::super::failure::Failure;
use super::super::output::{Format, failed, one_line, table};

/// Arguments of `cove hook test`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {
    /// The plugin's folder, or a file in it
    #[arg(value_name = "FILE|DIR")]
    plugin: PathBuf,
    /// Compare what the plugin does with this file
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Write that file anew
    #[arg(long, requires = "golden")]
    update: bool,
    /// Also write the report to this file, as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    plugin: &'a str,
    version: &'a str,
    component: Option<&'a str>,
    failures: usize,
    cases: Vec<ShownCase<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownCase<'a> {
    name: &'a str,
    hook: Option<&'static str>,
    passed: bool,
    said: Option<&'a str>,
    took_us: u64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    log: &'a [String],
}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let paths = paths()?;
        let options = KitOptions {
            plugin: self.plugin,
            compiler: paths.programs.join("coved"),
            golden: self.golden,
            update: self.update,
            scratch: scratch(&paths),
        };
        let report = test(&options).await.map_err(|error| Report::of(&error))?;
        if let Some(file) = &self.junit {
            write_junit(file, &report)?;
        }
        self.format.print(&shown(&report), |_| render(&report))?;
        Ok(u8::from(report.failures() > 0))
    }
}

fn said(verdict: &KitVerdict) -> (bool, Option<&str>) {
    match verdict {
        KitVerdict::Passed(said) => (true, said.as_deref()),
        KitVerdict::Failed(reason) => (false, Some(reason)),
    }
}

fn shown(report: &KitReport) -> Shown<'_> {
    let cases = report.cases.iter().map(|case| {
        let (passed, said) = said(&case.verdict);
        let hook = case.point.map(|point| point.as_str());
        let took_us = u64::try_from(case.took.as_micros()).unwrap_or(u64::MAX);
        ShownCase { name: &case.name, hook, passed, said, took_us, log: &case.log }
    });
    Shown {
        plugin: &report.plugin,
        version: &report.version,
        component: report.component.as_ref().map(|digest| digest.as_str()),
        failures: report.failures(),
        cases: cases.collect(),
    }
}

/// A row for each case, what the plugin logged, and a line that counts the cases.
pub(in super::super) fn render(report: &KitReport) -> String {
    let rows = report.cases.iter().map(|case| {
        let (passed, said) = said(&case.verdict);
        [
            if passed { "PASS" } else { "FAIL" }.to_owned(),
            case.point.map_or("-", |point| point.as_str()).to_owned(),
            case.name.clone(),
            said.unwrap_or_default().to_owned(),
        ]
    });
    let rows = table(["", "HOOK", "CASE", "FOUND"], rows);
    let (all, failures) = (report.cases.len(), report.failures());
    let plugin = one_line(&format!("{} {}", report.plugin, report.version));
    let mut text = format!("{rows}\n");
    for case in report.cases.iter().filter(|case| !case.log.is_empty()) {
        let point = case.point.map_or("-", |point| point.as_str());
        let lines = case.log.iter().map(|line| format!("\n  {}", one_line(line)));
        text += &format!("\n{point} logged:{}\n", lines.collect::<String>());
    }
    format!("{text}\n{plugin}: {} of {all} cases passed", all - failures)
}

/// Writes the report for a build server.
fn write_junit(file: &Path, report: &KitReport) -> Result<(), Report> {
    let written = junit(report).and_then(|text| std::fs::write(file, text));
    written.map_err(|error| failed(&format!("cannot write `{}`", file.display()), &error))
}

/// The report as JUnit has it. Texts are on one line and without control characters, which XML cannot hold.
pub(in super::super) fn junit(report: &KitReport) -> std::io::Result<Vec<u8>> {
    let (tests, failures) = (report.cases.len().to_string(), report.failures().to_string());
    let name = one_line(&report.plugin);
    let suite =
        [("name", name.as_str()), ("tests", tests.as_str()), ("failures", failures.as_str())];
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites = writer.create_element("testsuites");
    suites.write_inner_content(|writer| {
        let suite = writer.create_element("testsuite").with_attributes(suite);
        suite.write_inner_content(|writer| {
            report.cases.iter().try_for_each(|case| junit_case(writer, case))
        })?;
        Ok(())
    })?;
    Ok(writer.into_inner())
}

fn junit_case(writer: &mut Writer<Vec<u8>>, case: &KitCase) -> std::io::Result<()> {
    let seconds = format!("{:.6}", case.took.as_secs_f64());
    let point = case.point.map_or("plugin", |point| point.as_str());
    let name = one_line(&case.name);
    let about = [("name", name.as_str()), ("classname", point), ("time", seconds.as_str())];
    let element = writer.create_element("testcase").with_attributes(about);
    let failure = match &case.verdict {
        KitVerdict::Passed(_) => None,
        KitVerdict::Failed(reason) => Some(one_line(reason)),
    };
    let logged: Vec<_> = case.log.iter().map(|line| one_line(line)).collect();
    if failure.is_none() && logged.is_empty() {
        element.write_empty()?;
        return Ok(());
    }
    element.write_inner_content(|writer| {
        if let Some(reason) = &failure {
            let failure = writer.create_element("failure");
            failure.with_attribute(("message", reason.as_str())).write_empty()?;
        }
        if !logged.is_empty() {
            let log = writer.create_element("system-out");
            log.write_text_content(BytesText::new(&logged.join("\n")))?;
        }
        Ok(())
    })?;
    Ok(())
}
