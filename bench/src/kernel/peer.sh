# What administrators have scripts do, in the appserver. Arguments: what to do, and for how many clients.
# Kinder to these programs than most scripts: no waits for udev, no copies of the configuration, and one targetcli for all.
export HOME=/mnt PATH=/usr/sbin:/usr/bin:/sbin:/bin DM_DISABLE_UDEV=1
lvm='--config=backup{backup=0 archive=0} activation{udev_sync=0 udev_rules=0} devices{use_devicesfile=0}'
target=iqn.2026-01.internal.lab.peer

now() { cut -d' ' -f1 /proc/uptime; }

# What targetcli is told for each of that many clients: a target of its own, with a secret.
orders() {
  echo "set global auto_save_on_exit=false auto_add_mapped_luns=true auto_add_default_portal=false"
  for n in $(seq "$1"); do
    at=/iscsi/$target:c$n/tpg1
    acl=$at/acls/$target.client:c$n
    echo "/backstores/block create c$n /dev/mapper/peer-c$n"
    echo "/iscsi create $target:c$n"
    echo "$at/portals create 127.0.0.1 3270"
    echo "$at/luns create /backstores/block/c$n"
    echo "$at/acls create $target.client:c$n"
    echo "$acl set auth userid=c$n password=hunter2hunter2"
  done
  echo exit
}

case $1 in
prepare)
  mkdir -p /run/lock /run/lvm /run/dbus
  # targetcli wants to ask it for backends that nobody here uses.
  dbus-daemon --system --fork --nopidfile
  pvcreate "$lvm" -qy /dev/vda && vgcreate "$lvm" -q peer /dev/vda
  lvcreate "$lvm" -qy -Zn -Wn -n image -L 512M peer && lvcreate "$lvm" -qy -Zn -Wn -n files -L 2G peer
  mkfs.ext4 -q -E lazy_itable_init=0 /dev/mapper/peer-files
  ;;
make)
  begin=$(now)
  for n in $(seq "$2"); do lvcreate "$lvm" -qy -s -n c$n -L 64M peer/image > /dev/null || exit 1; done
  made=$(now)
  orders "$2" | targetcli > /mnt/targetcli.log || { cat /mnt/targetcli.log; exit 1; }
  end=$(now)
  there=$(ls -d /sys/kernel/config/target/iscsi/$target:c*/tpgt_1/acls/*/lun_0 | wc -l)
  [ "$there" = "$2" ] || { cat /mnt/targetcli.log; exit 1; }
  echo "peer: $begin $made $end"
  ;;
open)
  # Not a peer's, but a disk of ours: the load generator knows no secrets.
  echo 0 > "/sys/kernel/config/target/iscsi/$2/tpgt_1/attrib/authentication"
  ;;
remove)
  printf 'set global auto_save_on_exit=false\nclearconfig confirm=True\nexit\n' | targetcli > /mnt/targetcli.log
  for n in $(seq "$2"); do echo peer/c$n; done | xargs lvremove "$lvm" -qf
  ;;
esac
