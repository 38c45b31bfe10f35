//! The plugin `dotfiles` and the examples for authors: as components, with grants,
//! in what a machine is then.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::harness::{Who, World, as_everybody, skipped, tool};

/// Where `scripts/build-plugins.sh --examples` and `scripts/build-examples.sh` put components.
fn built(id: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    target.join("test-plugins").join(id)
}

/// Installs a plugin. Returns the lines of the configuration that grant it these needs.
pub(crate) fn install(world: &World, id: &str, needs: &[&str]) -> String {
    let folder = world.home.join("incoming").join(id);
    fs::create_dir_all(&folder).expect("made");
    for file in ["plugin.toml", "plugin.wasm"] {
        fs::copy(built(id).join(file), folder.join(file)).expect("copied");
    }
    world.cove(["hook", "install", folder.to_str().expect("UTF-8")]).success();
    // The daemon reads its configuration when it starts.
    world.cove(["daemon", "stop"]).success();
    let component = Sha256::digest(fs::read(folder.join("plugin.wasm")).expect("readable"));
    let component: String = component.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[hooks.grants.{id}]\ncomponent = \"{component}\"\nneeds = {needs:?}\n")
}

/// A user with dotfiles in a repository.
fn world_with_dotfiles(who: Who) -> World {
    let world = World::new(who);
    let dotfiles = world.user_home.join("dotfiles");
    for (path, content, mode) in [
        (".vimrc", "set number\n", 0o644),
        (".config/app/settings.toml", "colour = 'blue'\n", 0o600),
        (".gitconfig", "[alias]\n\tst = status\n", 0o644),
        ("bin/sing", "#!/bin/sh\necho la la\n", 0o755),
        ("README.md", "my dotfiles\n", 0o644),
        (".gitignore", "*.key\n", 0o644),
        ("private.key", "stays at home\n", 0o600),
        ("untracked", "stays at home\n", 0o644),
    ] {
        let path = dotfiles.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }
    symlink(".vimrc", dotfiles.join(".exrc")).expect("linked");
    let path = dotfiles.to_str().expect("UTF-8");
    let home = world.user_home.to_str().expect("UTF-8");
    let variables = [("HOME", home), ("GIT_CONFIG_NOSYSTEM", "1")];
    tool("git", &["-C", path, "init", "--quiet"], &variables).success();
    tool("git", &["-C", path, "add", "--all", "--", ":!untracked"], &variables).success();
    let needs = ["work-disk:**", "host-files.read:dotfiles-index", "host-files.import:dotfiles"];
    let mut config = install(&world, "dotfiles", &needs);
    config += "host_files = { dotfiles = [\"~/dotfiles\"], dotfiles-index = [\"~/dotfiles/.git/index\"] }\n";
    config += "[hooks.settings.dotfiles]\nexclude = [\"README.md\", \".gitignore\"]\n";
    world.configure(&config);
    world
}

as_everybody!(tracked_dotfiles_are_in_a_machine);

fn tracked_dotfiles_are_in_a_machine(who: Who) {
    let world = world_with_dotfiles(who);
    let plan = world.cove(["run", "--dry-run"]).success().told();
    for path in [".vimrc", ".config/app/settings.toml", "bin/sing"] {
        assert!(plan.contains(path), "{path}: {plan}");
    }
    let script = "cd && cat .vimrc && bin/sing && stat -c %a .config/app/settings.toml && \
                  git config alias.st && git config user.email && \
                  ! ls -d README.md .gitignore private.key untracked .exrc 2>/dev/null";
    let ran = world.cove(["run", "--rm", "--", "sh", "-c", script]).success();
    let ran = ran.prints("set number\nla la\n600\nstatus\nada@example.org\n");
    ran.says("symbolic links: `.exrc`");
    world.finish();
}

#[test]
fn examples_in_every_language_plan_what_they_say() {
    let world = World::new(Who::Caller);
    let mut config = String::new();
    let mut expected = Vec::new();
    for (language, id, needs, setting, planned) in [
        ("Rust", "greeting", "work-disk:.profile", "text = \"hello\"", ".profile"),
        ("Python", "machine-facts", "work-disk:.config/cove/machine.json", "", "machine.json"),
        ("JavaScript", "npmrc", "work-disk:.npmrc", "options = [\"fund=false\"]", ".npmrc"),
        ("C", "hushlogin", "work-disk:.hushlogin", "loud = false", ".hushlogin"),
    ] {
        if !built(id).join("plugin.wasm").is_file() {
            skipped(&format!("the example in {language} is not built: scripts/build-examples.sh"));
            continue;
        }
        config += &install(&world, id, &[needs]);
        writeln!(config, "[hooks.settings.{id}]\n{setting}").expect("written");
        expected.push((id, planned));
    }
    world.configure(&config);
    let plan = world.cove(["run", "--dry-run"]).success().told();
    for (id, planned) in expected {
        assert!(plan.contains(id) && plan.contains(planned), "{id}: {plan}");
    }
    world.finish();
}
