//! Initramfs archives: the agent as `/init`, the kernel modules a guest needs, and the boot's key.
//!
//! The kernel unpacks archives that stand one after the other, so a VM's initrd is [`base`], the same
//! for all boots of a kernel, and behind it [`boot_archive`], made anew for each boot. Output depends
//! on the input alone: times are 0, entries sorted, modules in load order. This module knows nothing
//! of disks or monitors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cpio::newc::{Builder, ModeFileType, trailer};
use object::{Object, ObjectSection};

use crate::id::BootId;
use crate::report::{Explain, Kind};
use crate::wire::boot::{BOOT_FILE, BootFile, BootMode, MODULES_FOLDER, MODULES_INDEX};
use crate::wire::proof::BootKey;

/// What a guest loads, in the order in which the agent wants it: the channel to the host first, then
/// disks and file systems. `crc32c_generic` is what ext4 asks the crypto layer for by name, a soft
/// dependency that `depends=` does not show.
const WANTED: [(&str, Need); 8] = [
    ("virtio_mmio", Need::Required),
    ("virtio_pci", Need::Optional),
    ("vmw_vsock_virtio_transport", Need::Required),
    ("virtio_blk", Need::Required),
    ("crc32c_generic", Need::Optional),
    ("ext4", Need::Required),
    ("overlay", Need::Required),
    ("virtio_net", Need::Required),
];

/// Whether a guest can do without a module.
#[derive(PartialEq, Eq)]
enum Need {
    Required,
    /// Taken where the kernel has it.
    Optional,
}

/// The largest module file that is read, so that a wrong folder cannot fill the memory.
const MAX_MODULE: u64 = 32 << 20;

/// The marker at the end of a signed module, from the kernel's `module_signature.h`.
const SIGNATURE_MARKER: &[u8] = b"~Module signature appended~\n";

/// Bytes of `struct module_signature`; its last four are the signature's length, big-endian.
const SIGNATURE_HEADER: usize = 12;

/// An archive that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A module that a guest needs is neither a file nor part of the kernel.
    #[error("the kernel in `{}` has no module `{name}`", folder.display())]
    NoModule {
        /// The folder of the modules.
        folder: PathBuf,
        /// The module.
        name: String,
    },
    /// A module file is no kernel module.
    #[error("`{}` is not a kernel module", path.display())]
    NotAModule {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The agent wants a loader and libraries, and a guest has none when it starts.
    #[error(
        "the agent is not linked statically: build it for x86_64-unknown-linux-musl, as \
         scripts/setup.sh does"
    )]
    AgentNotStatic,
}

impl Explain for InitramfsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } | Self::Write { .. } => Kind::Failed,
            Self::NoModule { .. } | Self::NotAModule { .. } | Self::AgentNotStatic => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } | Self::Write { .. } | Self::AgentNotStatic => None,
            Self::NoModule { .. } | Self::NotAModule { .. } => Some(
                "a kernel for guests needs virtio_mmio, virtio_blk, virtio_net, ext4, overlay and \
                 vmw_vsock_virtio_transport, built in or as uncompressed .ko files"
                    .to_owned(),
            ),
        }
    }
}

/// The archive that all boots of one kernel share: `agent` (the program's bytes) as `/init`, and the
/// modules from `modules`, a kernel's folder of `.ko` files with its `modules.builtin`.
///
/// # Errors
/// When a module is missing or unreadable, or the agent cannot run without a loader.
pub fn base(agent: &[u8], modules: &Path) -> Result<Vec<u8>, InitramfsError> {
    if wants_loader(agent) {
        return Err(InitramfsError::AgentNotStatic);
    }
    let chosen = Modules::scan(modules)?.in_load_order()?;
    base_archive(agent, &chosen)
        .map_err(|source| InitramfsError::Write { path: "the initramfs".into(), source })
}

/// Whether a program names a dynamic loader. Such an agent, made by a build with all features, would
/// leave a guest that never says a word.
fn wants_loader(program: &[u8]) -> bool {
    use object::read::elf::{ElfFile64, ProgramHeader};
    let Ok(elf) = ElfFile64::<object::Endianness>::parse(program) else {
        return false;
    };
    let endian = elf.endian();
    elf.elf_program_headers().iter().any(|header| header.p_type(endian) == object::elf::PT_INTERP)
}

/// Writes a VM's initrd for one boot: the shared archive and this boot's behind it. The file holds the
/// key, so it is made new, with mode 0600.
///
/// # Errors
/// When `base` cannot be read or `out` exists or cannot be written.
pub fn boot_initrd(
    base: &Path,
    out: &Path,
    key: &BootKey,
    boot_id: &BootId,
    mode: BootMode,
) -> Result<(), InitramfsError> {
    let write = |source| InitramfsError::Write { path: out.to_owned(), source };
    let mut shared = fs::File::open(base)
        .map_err(|source| InitramfsError::Read { path: base.to_owned(), source })?;
    let archive = boot_archive(key, boot_id, mode).map_err(write)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(out).map_err(write)?;
    let length = io::copy(&mut shared, &mut file).map_err(write)?;
    let padding = usize::try_from(length.next_multiple_of(4) - length).unwrap_or(0);
    file.write_all(&[0; 4][..padding]).and_then(|()| file.write_all(&archive)).map_err(write)
}

/// The archive of one boot: [`BOOT_FILE`] and nothing else.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn boot_archive(key: &BootKey, boot_id: &BootId, mode: BootMode) -> io::Result<Vec<u8>> {
    let seed: Vec<u8> = [BootKey::random(), BootKey::random()]
        .iter()
        .flat_map(|random| random.to_hex().into_bytes())
        .collect();
    let boot = BootFile {
        key: key.to_hex(),
        boot_id: boot_id.clone(),
        seed: String::from_utf8(seed).map_err(io::Error::other)?,
        mode,
    };
    let mut archive = Archive::default();
    archive.file(BOOT_FILE.trim_start_matches('/'), 0o600, &serde_json::to_vec(&boot)?)?;
    archive.finish()
}

fn base_archive(agent: &[u8], modules: &[Module]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["cove", "dev", "proc", "run", "sys"] {
        archive.folder(folder)?;
    }
    // The kernel opens it as the agent's standard streams before anything is mounted.
    archive.console("dev/console")?;
    archive.file("init", 0o755, agent)?;
    let folder = MODULES_FOLDER.trim_start_matches('/');
    archive.folder(folder)?;
    let mut index = String::new();
    for module in modules {
        let name = format!("{}.ko", module.name);
        archive.file(&format!("{folder}/{name}"), 0o644, &module.content)?;
        index.push_str(&name);
        index.push('\n');
    }
    archive.file(&format!("{folder}/{MODULES_INDEX}"), 0o644, index.as_bytes())?;
    archive.finish()
}

/// A module to be loaded.
struct Module {
    name: String,
    content: Vec<u8>,
}

/// The modules of a kernel.
struct Modules {
    folder: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    fn scan(folder: &Path) -> Result<Self, InitramfsError> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            let read = |source| InitramfsError::Read { path: next.clone(), source };
            for entry in fs::read_dir(&next).map_err(read)? {
                let entry = entry.map_err(read)?;
                let path = entry.path();
                let kind = entry.file_type().map_err(read)?;
                if kind.is_dir() {
                    folders.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        let list = folder.join("modules.builtin");
        let builtin = match fs::read_to_string(&list) {
            Ok(text) => text.lines().filter_map(|line| module_name(Path::new(line))).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(source) => return Err(InitramfsError::Read { path: list, source }),
        };
        Ok(Self { folder: folder.to_owned(), files, builtin })
    }

    fn in_load_order(&self) -> Result<Vec<Module>, InitramfsError> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, need) in WANTED {
            if need == Need::Required || self.files.contains_key(name) {
                self.add(name, &mut seen, &mut order)?;
            }
        }
        Ok(order)
    }

    /// Adds a module behind those it depends on.
    fn add(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<(), InitramfsError> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            if self.builtin.contains(name) {
                return Ok(());
            }
            return Err(InitramfsError::NoModule {
                folder: self.folder.clone(),
                name: name.to_owned(),
            });
        };
        let mut content = read_module(path)?;
        for dependency in dependencies(path, &content)? {
            self.add(&dependency, seen, order)?;
        }
        content.truncate(without_signature(&content));
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }
}

/// The kernel's name of a module file: it takes `-` and `_` for the same.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(".ko")?;
    Some(name.replace('-', "_"))
}

fn read_module(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    let read = |source| InitramfsError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(read)?.len();
    if length > MAX_MODULE {
        return Err(read(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a module of {length} bytes is too large"),
        )));
    }
    fs::read(path).map_err(read)
}

/// The modules a module names in `depends=` of its `.modinfo` section.
fn dependencies(path: &Path, content: &[u8]) -> Result<Vec<String>, InitramfsError> {
    let not_a_module = |source| InitramfsError::NotAModule { path: path.to_owned(), source };
    let file = object::File::parse(content).map_err(|error| not_a_module(error.into()))?;
    let section = file
        .section_by_name(".modinfo")
        .ok_or_else(|| not_a_module("it has no section `.modinfo`".into()))?;
    let information = section.data().map_err(|error| not_a_module(error.into()))?;
    Ok(information
        .split(|&byte| byte == 0)
        .filter_map(|field| field.strip_prefix(b"depends="))
        .flat_map(|names| names.split(|&byte| byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect())
}

/// The length of a module without the signature at its end. Guests do not insist on signatures (the
/// modules come from the same folder as the kernel), and checking them costs boot time.
fn without_signature(content: &[u8]) -> usize {
    let length = content.len();
    content
        .strip_suffix(SIGNATURE_MARKER)
        .and_then(|rest| rest.last_chunk::<SIGNATURE_HEADER>())
        .and_then(|header| header.last_chunk::<4>())
        .and_then(|length| usize::try_from(u32::from_be_bytes(*length)).ok())
        .and_then(|signature| {
            length.checked_sub(SIGNATURE_MARKER.len() + SIGNATURE_HEADER + signature)
        })
        .unwrap_or(length)
}

/// An archive in the `newc` format, in memory.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, kind: ModeFileType) -> Builder {
        self.entries += 1;
        Builder::new(name).ino(self.entries).mode(mode).set_mode_file_type(kind)
    }

    fn folder(&mut self, name: &str) -> io::Result<()> {
        let entry = self.entry(name, 0o755, ModeFileType::Directory).nlink(2);
        entry.write(&mut self.bytes, 0).finish().map(drop)
    }

    fn console(&mut self, name: &str) -> io::Result<()> {
        let entry = self.entry(name, 0o600, ModeFileType::Char);
        let entry = entry.rdev_major(5).rdev_minor(1);
        entry.write(&mut self.bytes, 0).finish().map(drop)
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        let entry = self.entry(name, mode, ModeFileType::Regular);
        let mut writer = entry.write(&mut self.bytes, length);
        writer.write_all(content)?;
        writer.finish().map(drop)
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        trailer(&mut self.bytes)?;
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests;
