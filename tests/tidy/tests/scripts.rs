//! Scripts that change a machine, run where they can change nothing but a folder of the test.
//!
//! Each test has a copy of the scripts, in which those that build are replaced, and programs that
//! stand before those of the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use drbd_tidy::top;

/// What the module of the tests was built for.
const RELEASE: &str = "7.9.9+deb13-amd64";

/// A checkout with nothing but scripts, and a folder to install to.
struct Bench {
    place: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("scripts-{name}"));
        let _ = fs::remove_dir_all(&place);
        let bench = Self { place };
        fs::create_dir_all(bench.at("scripts")).unwrap();
        for entry in fs::read_dir(top().join("scripts")).unwrap().flatten() {
            if entry.path().is_file() {
                let copy = bench.at("scripts").join(entry.file_name());
                fs::copy(entry.path(), copy).unwrap();
            }
        }
        // Nothing may look for packages, build or read a module here.
        bench.program("scripts/kernel-source", "exit 9");
        bench.program("bin/modinfo", &format!("echo '{RELEASE} SMP'"));
        bench
    }

    /// A bench whose module and tools have been built.
    fn built(name: &str) -> Self {
        let bench = Self::new(name);
        bench.write("out/drivers/block/drbd/drbd.ko", "module of drbd-rs");
        bench.write(
            "out/.kernel",
            &format!("{} 1\n", bench.at("kdir").display()),
        );
        bench.configure("CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_HASH=\"sha512\"\n");
        bench.write("tools", "tools of drbd-rs");
        let module = bench.at("out/drivers/block/drbd/drbd.ko");
        bench.program(
            "scripts/build-module",
            &format!("echo {}", module.display()),
        );
        bench.program(
            "scripts/build-tools",
            &format!("echo {}", bench.at("tools").display()),
        );
        bench
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn program(&self, path: &str, body: &str) {
        self.write(path, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn configure(&self, text: &str) {
        self.write("kdir/include/config/auto.conf", text);
    }

    /// Runs a script; whatever it is, it installs into `root`.
    fn run(&self, script: &str, settings: &[(&str, &str)]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .current_dir(self.at("scripts"))
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("DESTDIR", self.at("root"))
            .env("DRBD_CACHE", self.at("cache"));
        for name in [
            "PREFIX",
            "MODULE_SIGN_KEY",
            "MODULE_SIGN_CERT",
            "DRBD_KERNEL",
        ] {
            command.env_remove(name);
        }
        command.envs(settings.iter().copied()).output().unwrap()
    }

    fn succeeds(&self, script: &str, settings: &[(&str, &str)]) -> String {
        let output = self.run(script, settings);
        assert!(output.status.success(), "{script}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether a condition of `installed.sh` holds on a machine whose `/sys` is `sys`.
    fn holds(&self, condition: &str) -> bool {
        let script = format!(
            ". ./lib.sh; . ./installed.sh; SYS=../sys CONFIG=../kdir/include/config/auto.conf\n\
             if {condition}; then echo yes; else echo no; fi"
        );
        self.succeeds(&script, &[]) == "yes\n"
    }

    /// What is in `root`, folders left out.
    fn installed(&self) -> Vec<String> {
        let script = "cd ../root && find . ! -type d | sort";
        let listed = self.succeeds(script, &[]);
        listed.lines().map(str::to_owned).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn uninstall_removes_what_install_brought_and_nothing_else() {
    let bench = Bench::built("uninstall");
    let theirs = [
        "root/lib/modules/7.1/updates/drbd.ko",
        "root/usr/lib/drbd/notify.sh",
        "root/usr/sbin/drbdmon",
    ];
    for file in theirs {
        bench.write(file, "of somebody else");
    }
    let before = bench.installed();

    bench.succeeds("./install k", &[]);
    assert_eq!(
        bench.installed(),
        [
            "./etc/kernel/postinst.d/drbd-rs",
            "./lib/modules/7.1/updates/drbd.ko",
            "./lib/modules/7.9.9+deb13-amd64/updates/drbd.ko",
            "./usr/lib/drbd/drbdadm-84",
            "./usr/lib/drbd/drbdsetup-84",
            "./usr/lib/drbd/notify.sh",
            "./usr/sbin/drbdadm",
            "./usr/sbin/drbdmeta",
            "./usr/sbin/drbdmon",
            "./usr/sbin/drbdsetup",
        ]
    );
    for tool in ["sbin/drbdsetup", "sbin/drbdmeta", "lib/drbd/drbdadm-84"] {
        assert_eq!(bench.read(&format!("root/usr/{tool}")), "tools of drbd-rs");
    }

    // As often as one likes, each the same.
    bench.succeeds("./install k && ./uninstall && ./uninstall", &[]);
    assert_eq!(bench.installed(), before);
}

#[test]
fn tools_that_are_not_ours_are_not_uninstalled() {
    let bench = Bench::built("theirs");
    for tool in ["sbin/drbdadm", "sbin/drbdsetup", "lib/drbd/drbdadm-84"] {
        bench.write(&format!("root/usr/{tool}"), "of drbd-utils");
    }
    let before = bench.installed();
    bench.succeeds("./uninstall", &[]);
    assert_eq!(bench.installed(), before);
}

#[test]
fn the_kernel_is_told_where_the_tools_are() {
    let bench = Bench::built("prefix");
    let options = "root/etc/modprobe.d/drbd-rs.conf";
    bench.succeeds("./install k", &[("PREFIX", "/opt/drbd/")]);
    assert_eq!(
        bench.read(options),
        "options drbd usermode_helper=/opt/drbd/sbin/drbdadm\n"
    );
    bench.succeeds("./uninstall", &[("PREFIX", "/opt/drbd")]);
    assert!(bench.installed().is_empty());

    // Where it looks by itself.
    bench.write(
        options,
        "options drbd usermode_helper=/opt/drbd/sbin/drbdadm\n",
    );
    bench.succeeds("./install k", &[]);
    assert!(!bench.at(options).exists());
}

#[test]
fn a_named_key_signs_what_is_installed_and_not_what_was_built() {
    let bench = Bench::built("sign");
    let module = "root/lib/modules/7.9.9+deb13-amd64/updates/drbd.ko";
    bench.write("key", "secret");
    bench.write("cert", "public");
    // As the kernel's program does, it fails if it is told nothing.
    let signer = "[ $# = 4 ] || exit 2; echo \" $1 $(cat \"$2\") $(cat \"$3\")\" >>\"$4\"";
    bench.program("kdir/scripts/sign-file", signer);
    let (key, cert) = (bench.at("key"), bench.at("cert"));
    let (key, cert) = (key.to_str().unwrap(), cert.to_str().unwrap());

    let half = bench.run("./install k", &[("MODULE_SIGN_KEY", key)]);
    assert!(!half.status.success());
    assert!(!bench.at("root").exists(), "{}", said(&half));

    bench.succeeds(
        "./install k",
        &[("MODULE_SIGN_KEY", key), ("MODULE_SIGN_CERT", cert)],
    );
    assert_eq!(
        bench.read(module),
        "module of drbd-rs sha512 secret public\n"
    );
    assert_eq!(
        bench.read("out/drivers/block/drbd/drbd.ko"),
        "module of drbd-rs"
    );
}

#[test]
fn a_machine_that_wants_signed_modules_is_recognised() {
    let bench = Bench::built("enforced");
    let lockdown = "sys/kernel/security/lockdown";
    let enforce = "sys/module/module/parameters/sig_enforce";
    let enforced = || bench.holds("signatures_are_enforced");

    assert!(!enforced());
    bench.write(lockdown, "[none] integrity confidentiality\n");
    bench.write(enforce, "N\n");
    assert!(!enforced());
    bench.write(lockdown, "none [integrity] confidentiality\n");
    assert!(enforced());
    bench.write(lockdown, "[none] integrity confidentiality\n");
    bench.write(enforce, "Y\n");
    assert!(enforced());
    // A kernel that cannot check does not.
    bench.configure("# CONFIG_MODULE_SIG is not set\n");
    assert!(!enforced());
    bench.write(enforce, "N\n");
    bench.configure("CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_FORCE=y\n");
    assert!(enforced());
}

#[test]
fn a_loaded_driver_is_known_by_its_build() {
    let bench = Bench::built("loaded");
    let another = || bench.holds("another_is_loaded ../out/drivers/block/drbd/drbd.ko");
    let note = "sys/module/drbd/notes/.note.gnu.build-id";

    assert!(!another(), "none is loaded");
    bench.write("sys/module/drbd/version", "8.4.11");
    assert!(another(), "one without a note is not ours");
    bench.write(note, "\n of drbd\n");
    assert!(another());
    bench.write("out/drivers/block/drbd/drbd.ko", "module\0\n of drbd\n-rs");
    assert!(!another());
}

#[test]
fn a_new_kernel_without_the_module_is_named_and_not_refused() {
    let bench = Bench::new("hook");
    let output = bench.run("./kernel-hook no-such-kernel /boot/vmlinuz", &[]);
    assert!(output.status.success());
    assert!(said(&output).contains("no drbd-rs module for no-such-kernel"));
    let output = bench.run("./kernel-hook 2>&-; ./kernel-hook no-such-kernel 2>&-", &[]);
    assert!(output.status.success());
}

#[test]
fn a_kernel_that_left_the_archive_is_prepared_as_before() {
    let bench = Bench::new("prepared");
    let prepare = format!("./prepare-kernel {RELEASE}");
    let missing = bench.run(&prepare, &[]);
    assert!(!missing.status.success(), "the archive has nothing");

    let folder = format!("cache/stock-{RELEASE}-0123456789");
    bench.write(&format!("{folder}/build/Makefile"), "");
    assert!(
        !bench.run(&prepare, &[]).status.success(),
        "it is not complete"
    );
    let complete = format!("{folder}/complete");
    bench.write(&complete, "toolchain-0123456789\n");
    assert!(
        !bench.run(&prepare, &[]).status.success(),
        "another compiler made it"
    );
    let toolchain = bench.succeeds("./toolchain-root --print", &[]);
    let name = toolchain.rsplit('/').next().unwrap();
    bench.write(&complete, name);
    let printed = bench.succeeds(&prepare, &[]);
    assert_eq!(
        printed.trim_end(),
        bench.at(&folder).join("build").to_str().unwrap()
    );
    assert_eq!(
        bench.succeeds("./prepare-kernel", &[("DRBD_KERNEL", RELEASE)]),
        printed
    );
}

#[test]
fn the_module_is_built_for_the_kernel_whose_headers_were_named() {
    let bench = Bench::new("metadata");
    bench.write("kdir/Makefile", "");
    bench.write("kdir/include/config/kernel.release", RELEASE);
    bench.configure("CONFIG_RUST=y\n");
    bench.program("scripts/prepare-kernel", "echo prepares \"$@\" >&2; exit 9");
    let output = bench.run("./build-module ../kdir", &[]);
    assert!(!output.status.success());
    assert!(
        said(&output).ends_with(&format!("prepares {RELEASE}\n")),
        "{}",
        said(&output)
    );

    bench.write("kdir/include/config/kernel.release", "7.9.9-custom");
    let output = bench.run("./build-module ../kdir", &[]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("pass a build folder that has"),
        "{}",
        said(&output)
    );
}
