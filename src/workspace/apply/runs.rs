//! Files that run, or make something run, without anybody starting them: whoever opens the folder, enters it, builds
//! or commits there does. A guest may write what it likes into them, so they are named before they are written.

use super::changes::Change;
use crate::wire::rpc::RunsByItself;
use crate::wire::survey::EntryKind;

use super::super::listing::shown;

/// What a row of the table is about; names in lower case.
#[derive(Debug, Clone, Copy)]
enum Which {
    /// A file of this name.
    Named(&'static str),
    /// Everything below a folder of this name, or of these names one in another.
    Below(&'static str),
    /// A file or a folder whose name begins like this.
    Begins(&'static str),
}

use Which::{Begins, Below, Named};

/// Which files, and who runs or reads them. The first row that fits counts.
const TABLE: &[(Which, &str)] = &[
    (Named(".envrc"), "direnv runs it"),
    (Below(".vscode"), "the editor reads it"),
    (Below(".idea"), "the editor reads it"),
    (Below(".zed"), "the editor reads it"),
    (Below(".devcontainer"), "the editor builds it"),
    (Named(".devcontainer.json"), "the editor builds it"),
    (Named(".exrc"), "the editor runs it"),
    (Named(".nvim.lua"), "the editor runs it"),
    (Named(".dir-locals.el"), "the editor reads it"),
    (Below(".claude"), "coding agents read it"),
    (Below(".cursor"), "coding agents read it"),
    (Named(".mcp.json"), "coding agents run it"),
    (Below(".github/workflows"), "a workflow"),
    (Below(".github/actions"), "a workflow"),
    (Named(".gitlab-ci.yml"), "a workflow"),
    (Below(".circleci"), "a workflow"),
    (Named(".travis.yml"), "a workflow"),
    (Named("azure-pipelines.yml"), "a workflow"),
    (Named("jenkinsfile"), "a workflow"),
    (Below(".husky"), "git hooks"),
    (Named(".pre-commit-config.yaml"), "git hooks"),
    (Named("lefthook.yml"), "git hooks"),
    (Begins(".git"), "git reads it"),
    (Named("package.json"), "package scripts"),
    (Named(".npmrc"), "npm reads it"),
    (Named(".yarnrc.yml"), "yarn reads it"),
    (Named("makefile"), "make runs it"),
    (Named("gnumakefile"), "make runs it"),
    (Named("justfile"), "just runs it"),
    (Named(".justfile"), "just runs it"),
    (Named("taskfile.yml"), "task runs it"),
    (Named("taskfile.yaml"), "task runs it"),
    (Named("rakefile"), "rake runs it"),
    (Named("gemfile"), "bundler runs it"),
    (Named("build.rs"), "a build script"),
    (Named("cargo.toml"), "build scripts"),
    (Below(".cargo"), "cargo reads it"),
    (Named("rust-toolchain.toml"), "cargo reads it"),
    (Named("setup.py"), "a build script"),
    (Named("pyproject.toml"), "build scripts"),
    (Named("conftest.py"), "pytest runs it"),
    (Named("noxfile.py"), "nox runs it"),
    (Named("tox.ini"), "tox reads it"),
    (Named(".mise.toml"), "mise reads it"),
    (Named("mise.toml"), "mise reads it"),
    (Named(".tool-versions"), "asdf reads it"),
    (Named("cmakelists.txt"), "a build script"),
    (Named("meson.build"), "a build script"),
    (Named("configure"), "a build script"),
    (Named("gradlew"), "a build script"),
    (Named("mvnw"), "a build script"),
    (Named("build.gradle"), "a build script"),
    (Named("build.gradle.kts"), "a build script"),
    (Named("settings.gradle"), "a build script"),
    (Named("settings.gradle.kts"), "a build script"),
    (Named("pom.xml"), "build scripts"),
    (Named("dockerfile"), "a build script"),
    (Named("flake.nix"), "nix runs it"),
    (Named("shell.nix"), "nix runs it"),
];

/// Those of the files that run by themselves, or can be executed and could not be before.
pub(super) fn of(work: &[Change]) -> Vec<RunsByItself> {
    let named = |change: &Change| {
        let why = why(&change.path).or_else(|| became_executable(change))?;
        Some(RunsByItself { path: shown(&change.path), why: why.to_owned() })
    };
    work.iter().filter_map(named).collect()
}

/// Why a file with this path runs by itself; none where it does not. In any case of letters, as some file systems
/// do not tell them apart.
fn why(path: &[u8]) -> Option<&'static str> {
    let path = path.to_ascii_lowercase();
    let rooted = [b"/", &path[..]].concat();
    let parts = || path.split(|byte| *byte == b'/');
    let fits = |which: Which| match which {
        Named(name) => parts().next_back() == Some(name.as_bytes()),
        Below(folder) => {
            let folder = format!("/{folder}/");
            rooted.windows(folder.len()).any(|part| part == folder.as_bytes())
        }
        Begins(start) => parts().any(|part| part.starts_with(start.as_bytes())),
    };
    TABLE.iter().find(|(which, _)| fits(*which)).map(|(_, why)| *why)
}

fn became_executable(change: &Change) -> Option<&'static str> {
    let kind_of = |entry: &Option<super::changes::Entry>| entry.as_ref().map(|entry| entry.kind);
    let executable = Some(EntryKind::Executable);
    let became = kind_of(&change.to) == executable && kind_of(&change.from) != executable;
    became.then_some("can be executed now")
}

#[cfg(test)]
mod tests {
    use super::super::changes::Entry;
    use super::*;

    #[test]
    fn files_that_run_by_themselves_are_known_by_their_names() {
        let table = [
            (".envrc", Some("direnv runs it")),
            ("deep/er/.envrc", Some("direnv runs it")),
            ("x.envrc", None),
            (".envrc/file", None),
            (".vscode/tasks.json", Some("the editor reads it")),
            ("web/.vscode/tasks.json", Some("the editor reads it")),
            ("my.vscode/tasks.json", None),
            (".vscode", None),
            (".devcontainer/devcontainer.json", Some("the editor builds it")),
            (".github/workflows/test.yml", Some("a workflow")),
            (".GitHub/Workflows/test.yml", Some("a workflow")),
            (".github/CODEOWNERS", Some("git reads it")),
            (".gitlab-ci.yml", Some("a workflow")),
            (".gitattributes", Some("git reads it")),
            (".gitmodules", Some("git reads it")),
            (".githooks/pre-commit", Some("git reads it")),
            ("git/x", None),
            (".husky/pre-push", Some("git hooks")),
            ("web/package.json", Some("package scripts")),
            ("package.json.md", None),
            ("Makefile", Some("make runs it")),
            ("Justfile", Some("just runs it")),
            ("build.rs", Some("a build script")),
            ("crates/x/Cargo.toml", Some("build scripts")),
            (".cargo/config.toml", Some("cargo reads it")),
            ("tests/conftest.py", Some("pytest runs it")),
            ("CMakeLists.txt", Some("a build script")),
            ("gradlew", Some("a build script")),
            ("src/main.rs", None),
            ("README.md", None),
        ];
        for (path, expected) in table {
            assert_eq!(why(path.as_bytes()), expected, "{path}");
        }
        let lower = |which: &Which| match which {
            Named(name) | Below(name) | Begins(name) => *name == name.to_ascii_lowercase(),
        };
        assert!(TABLE.iter().all(|(which, _)| lower(which)), "it could never fit");
    }

    #[test]
    fn what_becomes_executable_is_named() {
        let entry = |kind| Some(Entry { kind, object: "aa".to_owned() });
        let change = |from, to| Change { path: b"x\ny".to_vec(), from, to };
        let (file, executable) = (entry(EntryKind::File), entry(EntryKind::Executable));
        let named = of(&[
            change(None, executable.clone()),
            change(file.clone(), executable.clone()),
            change(executable.clone(), executable.clone()),
            change(executable, file),
        ]);
        let expected =
            RunsByItself { path: "x\\ny".to_owned(), why: "can be executed now".to_owned() };
        assert_eq!(named, [expected.clone(), expected]);
    }
}
