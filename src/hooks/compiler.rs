//! Compilation in a process of its own.
//!
//! Compiling has no bound in time by nature and parses hostile bytes with a large program. So `coved
//! compile-plugin CLASS` does it: a process without the daemon's environment, which closes what descriptors it
//! has inherited before it reads a byte, with limits on processor time and address space, killed at a
//! deadline. It gets the component on stdin and writes machine code to stdout.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use nix::sys::resource::{Resource, setrlimit};

use super::engine::compiling_engine;
use super::limits::{self, Class};
use crate::process::{Tool, ToolError};

/// The first argument that turns `coved` into the compiler.
pub const ARGUMENT: &str = "compile-plugin";

/// The compiler: a component on stdin, machine code on stdout, an error on stderr. Called first thing in
/// `main`, before any thread is started.
#[expect(clippy::print_stderr, reason = "stderr is how this process tells its parent why")]
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let class = match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some("large") => Class::Large,
        // Whatever else it is told, it takes no more than it may for the smaller ones.
        _ => Class::Small,
    };
    let closed = crate::process::close_all_but_standard().map_err(Into::into);
    match closed.and_then(|()| compile(class, io::stdin().lock(), io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compile(
    class: Class,
    input: impl Read,
    mut output: impl Write,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    restrict(class)?;
    let mut component = Vec::new();
    input.take(class.ceilings().component_bytes + 1).read_to_end(&mut component)?;
    // The bytes must be a component: text and other things the engine would take, too.
    if !component.starts_with(super::files::COMPONENT_HEADER) {
        return Err("it is not a component".into());
    }
    let code = compiling_engine(class)?.precompile_component(&component);
    // With its causes: what is wrong with a component is the last of them.
    output.write_all(&code.map_err(|error| format!("{error:#}"))?)?;
    output.flush()?;
    Ok(())
}

/// Takes away from this process what compiling does not need.
fn restrict(class: Class) -> nix::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let ceilings = class.ceilings();
    let (cpu, memory) = (ceilings.compile_cpu.as_secs(), ceilings.compile_address_space);
    setrlimit(Resource::RLIMIT_CPU, cpu, cpu)?;
    setrlimit(Resource::RLIMIT_AS, memory, memory)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16)
}

/// Compiles a component in a process made of `program`. The error is a sentence.
pub(super) async fn run(
    program: &Path,
    class: Class,
    component: Vec<u8>,
) -> Result<Vec<u8>, String> {
    let ceilings = class.ceilings();
    let tool = Tool::new(program)
        .args([ARGUMENT, class.as_str()])
        .keep_only_env(&[])
        .input(component)
        .deadline(ceilings.compile_wall)
        .max_output(ceilings.compiled_bytes);
    tool.run().await.map_err(|error| match error {
        ToolError::Start { program, source } => {
            format!("the compiler `{program}` does not start: {source}")
        }
        ToolError::TimedOut { deadline, .. } => {
            format!("compiling it took longer than {} s", deadline.as_secs())
        }
        ToolError::TooMuchOutput { limit, .. } => {
            format!("it compiles to more than {} MiB", limit >> 20)
        }
        ToolError::Failed { status, stderr, .. } => failed(class, status, &stderr),
    })
}

fn failed(class: Class, status: std::process::ExitStatus, stderr: &str) -> String {
    use std::os::unix::process::ExitStatusExt;
    let cpu = class.ceilings().compile_cpu.as_secs();
    match status.signal() {
        Some(nix::libc::SIGXCPU | nix::libc::SIGKILL) => {
            format!("compiling it takes more than {cpu} s of processor time")
        }
        Some(nix::libc::SIGABRT) if stderr.contains("memory allocation") => {
            let limit = class.ceilings().compile_address_space >> 20;
            format!("compiling it takes more than {limit} MiB of memory")
        }
        _ => {
            let line = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
            let line = line.collect::<Vec<_>>().join(" ");
            super::log::shortened(&line, limits::MESSAGE_BYTES)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A program that compiles as `coved compile-plugin` does: this test binary, told to run the test
    /// below, whose own stdout is moved away so that the test harness does not write into it.
    pub(in crate::hooks) fn program(folder: &Path) -> PathBuf {
        script(folder, "child_of_the_tests")
    }

    fn script(folder: &Path, test: &str) -> PathBuf {
        let binary = std::env::current_exe().expect("the test binary has a path");
        let script = format!(
            "#!/bin/sh\nexec 3>&1 >/dev/null\nexec '{}' --ignored --exact hooks::compiler::tests::{test}_$2 --nocapture\n",
            binary.display()
        );
        let path = folder.join("compiler");
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("executable");
        path
    }

    #[test]
    #[ignore = "not a test: the other tests run it as the compiler's process"]
    fn child_of_the_tests_small() {
        child(Class::Small);
    }

    #[test]
    #[ignore = "not a test: the other tests run it as the compiler's process"]
    fn child_of_the_tests_large() {
        child(Class::Large);
    }

    fn child(class: Class) -> ! {
        let output = fs::File::options().write(true).open("/dev/fd/3").expect("descriptor 3");
        if let Err(error) = compile(class, io::stdin().lock(), output) {
            io::stderr().write_all(error.to_string().as_bytes()).expect("stderr is there");
            std::process::exit(1);
        }
        std::process::exit(0);
    }

    #[test]
    #[ignore = "not a test: another test runs it to see the limits of the compiler's process"]
    fn limits_of_the_child_small() {
        tell_limits(Class::Small);
    }

    #[test]
    #[ignore = "not a test: another test runs it to see the limits of the compiler's process"]
    fn limits_of_the_child_large() {
        tell_limits(Class::Large);
    }

    fn tell_limits(class: Class) -> ! {
        let mut output = fs::File::options().write(true).open("/dev/fd/3").expect("descriptor 3");
        restrict(class).expect("restricted");
        let text = fs::read("/proc/self/limits").expect("there");
        output.write_all(&text).expect("written");
        std::process::exit(0);
    }

    #[tokio::test]
    async fn the_compiler_has_little() {
        let folder = tempfile::tempdir().expect("tempdir");
        let program = script(folder.path(), "limits_of_the_child");
        // The numbers of `limits.rs`, written out: a limit that is raised is to be seen here.
        for (class, cpu, memory) in [(Class::Small, 30, 2 << 30), (Class::Large, 120, 4_u64 << 30)]
        {
            let printed = run(&program, class, Vec::new()).await.expect("printed");
            let printed = String::from_utf8(printed).expect("text");
            for (name, expected) in [
                ("Max cpu time", cpu),
                ("Max address space", memory),
                ("Max file size", 0),
                ("Max core file size", 0),
                ("Max open files", 16),
            ] {
                let line = printed.lines().find_map(|line| line.strip_prefix(name));
                let words: Vec<_> = line.expect(name).split_whitespace().take(2).collect();
                assert_eq!(words, [expected.to_string(), expected.to_string()], "{name}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_component_is_refused_by_the_child_too() {
        let folder = tempfile::tempdir().expect("tempdir");
        let program = program(folder.path());
        for bytes in [&b"(component)"[..], b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0garbage"] {
            let error = run(&program, Class::Small, bytes.to_vec()).await.expect_err("refused");
            assert!(!error.is_empty() && !error.contains('\n'), "{error}");
        }
        let error = run(Path::new("/no/such/coved"), Class::Small, Vec::new())
            .await
            .expect_err("not there");
        assert!(error.contains("/no/such/coved"), "{error}");
    }

    #[test]
    fn a_killed_compiler_is_explained() {
        use std::os::unix::process::ExitStatusExt;
        let status = std::process::ExitStatus::from_raw(nix::libc::SIGXCPU);
        assert!(failed(Class::Small, status, "").contains("30 s of processor time"));
    }
}
