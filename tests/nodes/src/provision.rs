//! Fills the folder that a node sees as `/run/drop`: agent, kernel modules, tools, configuration.
//!
//! The image is the same for every node and never rebuilt; what makes a node ours or theirs comes
//! from here when it boots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};

use crate::bed::Bed;
use crate::machine::Backend;
use crate::node::{Driver, NodeSpec, Tools};

/// Hosts of the lab: name, address.
pub(crate) const HOSTS: [(&str, &str); 2] = [
    ("intralabXX", "10.22.100.212"),
    ("hdintralabXX", "10.22.100.215"),
];

/// The address that moves with the Primary role.
pub(crate) const VIRTUAL_IP: &str = "10.22.100.230";

/// The partition that the lab's configuration names.
pub(crate) const LAB_DISK: &str = "/dev/sda2";

/// Makes the drop folder of a node.
pub(crate) fn fill(bed: &Bed, backend: &dyn Backend, spec: &NodeSpec) -> Result<()> {
    let drop = &spec.drop;
    fs::create_dir_all(drop).context("create the drop folder")?;
    let agent = std::env::current_exe().context("find the agent")?;
    copy(&agent, &drop.join("drbd-nodes"))?;
    if let Some(modules) = backend.modules() {
        kernel_modules(bed, spec, &modules)?;
    }
    if spec.tools == Tools::Ours {
        copy(&bed.tools()?, &drop.join("drbd-tools"))?;
    }
    let config = drop.join("drbd.d");
    fs::create_dir_all(&config).context("create drbd.d")?;
    fs::write(config.join("global_common.conf"), GLOBAL_COMMON)?;
    fs::write(drop.join("setup.sh"), setup(backend, spec)).context("write setup.sh")
}

/// Puts the kernel's modules, and ours before the one of the same name, where the node binds them
/// to `/lib/modules`.
fn kernel_modules(bed: &Bed, spec: &NodeSpec, modules: &Path) -> Result<()> {
    ensure!(
        modules.is_dir(),
        "the kernel has no modules: {}",
        modules.display()
    );
    let place = spec.drop.join("lib/modules");
    fs::create_dir_all(&place)?;
    let status = Command::new("cp")
        .args(["-a", "--reflink=auto", "--no-target-directory"])
        .args([modules, &place])
        .status()
        .context("run cp")?;
    ensure!(status.success(), "cannot copy {}", modules.display());
    if spec.driver == Driver::C {
        return Ok(());
    }
    let release = fs::read_dir(&place)?.next().context("no release")??;
    let updates = release.path().join("updates");
    fs::create_dir_all(&updates)?;
    copy(&bed.module()?, &updates.join("drbd.ko"))?;
    let output = Command::new("depmod")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .arg("-b")
        .arg(&spec.drop)
        .arg(release.file_name())
        .output()
        .context("depmod is not installed (package kmod)")?;
    ensure!(
        output.status.success(),
        "depmod: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

const GLOBAL_COMMON: &str = "global { usage-count no; }\ncommon { protocol C; }\n";

/// The seed's resource, statement by statement as the course has it.
pub(crate) fn lab_resource() -> String {
    resource("resftp", "", &[])
}

/// A resource of one volume between the two hosts of the lab.
///
/// `sections` is more text inside the resource; `per_host` is text for each `on` section.
pub(crate) fn resource(name: &str, sections: &str, per_host: &[&str]) -> String {
    let mut text = format!(
        "resource {name} {{\ndevice /dev/drbd0;\ndisk {LAB_DISK};\nmeta-disk internal;\n{sections}"
    );
    for (index, (host, address)) in HOSTS.iter().enumerate() {
        let more = per_host.get(index).copied().unwrap_or_default();
        let _ = writeln!(text, "on {host} {{ address {address}:7789; {more}}}");
    }
    text.push_str("}\n");
    text
}

fn setup(backend: &dyn Backend, spec: &NodeSpec) -> String {
    let mut text = String::from(SETUP_HEAD);
    let interface = backend.interface();
    let _ = writeln!(text, "hostname {0}; echo {0} >/etc/hostname", spec.hostname);
    for (host, address) in HOSTS {
        let _ = writeln!(text, "echo {address} {host} >>/etc/hosts");
    }
    let _ = writeln!(
        text,
        "ip link set lo up; ip link set {interface} up\n\
         ip addr add {}/24 dev {interface}\n\
         ln -sfn $(readlink -f {}) /dev/drbd-test-disk\n\
         mknod {LAB_DISK} b $(stat -Lc '0x%t 0x%T' {})",
        spec.address,
        backend.disk_path(0),
        backend.disk_path(0)
    );
    if spec.tools == Tools::Ours {
        text.push_str(
            "rm -f /usr/sbin/drbd* /usr/lib/drbd/drbd* /etc/init.d/drbd\n\
             install -m 755 /run/drop/drbd-tools /usr/sbin/drbd-tools\n\
             for t in drbdadm drbdsetup drbdmeta; do ln -sf drbd-tools /usr/sbin/$t; done\n",
        );
    }
    text.push_str(SETUP_TAIL);
    text
}

const SETUP_HEAD: &str = r"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
MODULES=/lib/modules/$(uname -r)
mkdir -p $MODULES
mount --bind /run/drop$MODULES $MODULES
modprobe -q virtio_net
echo 127.0.0.1 localhost >/etc/hosts
";

const SETUP_TAIL: &str = r#"
mkdir -p /etc/drbd.d /var/lib/drbd /run/drbd
cp /run/drop/drbd.d/* /etc/drbd.d/
[ -e /etc/drbd.conf ] || cat >/etc/drbd.conf <<END
include "drbd.d/global_common.conf";
include "drbd.d/*.res";
END
sysctl -qw kernel.hung_task_timeout_secs=60 2>/dev/null
echo 7 >/proc/sys/kernel/printk
mkdir -p /mnt
[ -e /usr/sbin/poweroff ] || ln -s $(command -v busybox) /usr/sbin/poweroff
id -u user >/dev/null 2>&1 || {
    useradd -m -s /bin/sh user
    echo user:secret | chpasswd
    echo 'fichier du home' >/home/user/essai_fichier_ftp
    chown user:user /home/user/essai_fichier_ftp
}
[ -z "$login_tty" ] || setsid sh -c '
    while :; do
        stty sane <$0
        echo "$(hostname): root shell" >$0
        cd /root && HOME=/root TERM=vt100 bash -i <$0 >$0 2>&1
    done' $login_tty &
"#;
