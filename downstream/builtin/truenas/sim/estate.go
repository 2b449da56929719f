package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Secrets are what the simulated configuration holds that must never be shown to anybody.
var Secrets = []string{"lab-app-database-password", "lab-disk-sed-password", "lab-vm-display-password"}

func estate(opts Options) map[string][]object {
	now := time.Now()
	t := map[string][]object{
		"pool.query": {
			pool(1, "tank", 23_988_000_000_000, 14_100_000_000_000, now, "ONLINE", []any{vdev("RAIDZ2", "sda", "sdb", "sdc", "sdd", "sde", "sdf")}),
			pool(2, "fast", 1_992_000_000_000, 801_000_000_000, now, "DEGRADED", []any{degraded("MIRROR", "nvme0n1", "nvme1n1")}),
		},
		"pool.dataset.query": {
			dataset("tank", 14_100_000_000_000, 9_000_000_000_000), dataset("tank/media", 9_800_000_000_000, 9_000_000_000_000), dataset("tank/backup", 3_900_000_000_000, 9_000_000_000_000),
			dataset("tank/home", 400_000_000_000, 9_000_000_000_000), dataset("tank/home/alice", 220_000_000_000, 9_000_000_000_000), dataset("tank/home/bob", 180_000_000_000, 9_000_000_000_000),
			dataset("fast", 801_000_000_000, 1_100_000_000_000), dataset("fast/apps", 120_000_000_000, 1_100_000_000_000), dataset("fast/vms", 681_000_000_000, 1_100_000_000_000),
		},
		"disk.query": {},
		"sharing.smb.query": {
			{"id": 1, "name": "media", "path": "/mnt/tank/media", "comment": "Films and music", "enabled": true, "readonly": true, "browsable": true, "purpose": "DEFAULT_SHARE", "locked": false},
			{"id": 2, "name": "home", "path": "/mnt/tank/home", "comment": "", "enabled": true, "readonly": false, "browsable": false, "purpose": "PRIVATE_DATASETS_SHARE", "locked": false},
		},
		"sharing.nfs.query":  {{"id": 1, "path": "/mnt/tank/backup", "comment": "Proxmox backups", "networks": []string{"192.168.1.0/24"}, "hosts": []string{"192.168.1.11"}, "ro": false, "maproot_user": "root", "enabled": true, "security": []string{}, "locked": false}},
		"iscsi.target.query": {{"id": 1, "name": "vmstore", "alias": "Proxmox", "mode": "ISCSI", "groups": []any{}, "auth_networks": []string{}, "rel_tgt_id": 1}},
		"iscsi.extent.query": {{"id": 1, "name": "vmstore0", "type": "DISK", "disk": "zvol/fast/vms", "path": "zvol/fast/vms", "blocksize": 512, "ro": false, "enabled": true, "serial": "10f1", "naa": "0x6589cfc000000", "comment": ""}},
		"app.query": {
			app("jellyfin", "RUNNING", "1.2.14", "1.2.16", 8096), app("nextcloud", "RUNNING", "1.6.58", "1.6.58", 30027), app("broken", "CRASHED", "0.3.1", "0.3.1", 0),
		},
		"vm.query": {
			{"id": 1, "name": "homeassistant", "description": "Smart home", "vcpus": 1, "cores": 2, "threads": 1, "memory": 4096, "autostart": true, "bootloader": "UEFI", "time": "LOCAL", "status": object{"state": "RUNNING", "pid": 9912, "domain_state": "RUNNING"}, "devices": []any{object{"attributes": object{"dtype": "DISPLAY", "password": Secrets[2]}}}},
			{"id": 2, "name": "win11", "description": "", "vcpus": 1, "cores": 4, "threads": 2, "memory": 16384, "autostart": false, "bootloader": "UEFI", "time": "LOCAL", "status": object{"state": "STOPPED", "pid": nil, "domain_state": "SHUTOFF"}, "devices": []any{}},
		},
		"service.query": {
			service(1, "cifs", true, "RUNNING"), service(2, "nfs", true, "RUNNING"), service(3, "ssh", false, "STOPPED"), service(4, "iscsitarget", true, "RUNNING"), service(5, "ups", true, "STOPPED"), service(6, "snmp", false, "STOPPED"), service(7, "ftp", false, "STOPPED"),
		},
		"alert.list": {
			alert("a1f0", "CRITICAL", "VolumeStatus", "Pool fast state is DEGRADED: One or more devices have been removed by the administrator.", now.Add(-3*time.Hour)),
			alert("b2e7", "WARNING", "SMART", "Device: /dev/sdc [SAT], 8 Currently unreadable (pending) sectors.", now.Add(-40*time.Hour)),
			alert("c3d1", "INFO", "HasUpdate", "A system update is available. Go to System Settings → Update to download and apply the update.", now.Add(-90*time.Hour)),
		},
		"pool.snapshot.query": snapshots(opts.Snapshots, now),
	}
	for i, name := range []string{"sda", "sdb", "sdc", "sdd", "sde", "sdf", "nvme0n1", "nvme1n1", "sdg"} {
		d := object{
			"identifier": "{serial_lunid}LAB" + name, "name": name, "subsystem": "scsi", "number": 2048 + i, "serial": fmt.Sprintf("LAB%04d", i), "lunid": fmt.Sprintf("5000c500%08d", i), "size": int64(4_000_787_030_016), "description": "", "model": "WDC WD40EFPX-68C6CN0",
			"rotationrate": 5400, "type": "HDD", "bus": "ATA", "devname": "/dev/" + name, "pool": "tank", "passwd": Secrets[1], "hddstandby": "ALWAYS ON", "advpowermgmt": "DISABLED",
		}
		if strings.HasPrefix(name, "nvme") {
			d["subsystem"], d["size"], d["model"], d["rotationrate"], d["type"], d["pool"], d["bus"] = "nvme", int64(2_000_398_934_016), "Samsung SSD 990 PRO 2TB", nil, "SSD", "fast", "NVME"
		}
		if name == "sdg" {
			d["pool"] = nil
		}
		t["disk.query"] = append(t["disk.query"], d)
		status, verbose := "SUCCESS", "Completed without error"
		if name == "sdc" {
			status, verbose = "FAILED", "Completed: read failure"
		}
		t["smart.test.results"] = append(t["smart.test.results"], object{"disk": name, "current_test": nil, "tests": []any{
			object{"num": 1, "description": "Short offline", "status": status, "status_verbose": verbose, "remaining": 0.0, "lifetime": 21_400 + i, "lba_of_first_error": nil, "power_on_hours_ago": 30},
		}})
	}
	for i := range opts.Datasets {
		t["pool.dataset.query"] = append(t["pool.dataset.query"], dataset(fmt.Sprintf("tank/media/generated-%05d", i), 1_000_000, 9_000_000_000_000))
	}
	return t
}

func property(parsed any) object {
	return object{"parsed": parsed, "rawvalue": fmt.Sprint(parsed), "value": fmt.Sprint(parsed), "source": "LOCAL", "source_info": nil}
}

func dataset(id string, used, available int64) object {
	name, _, _ := strings.Cut(id, "/")
	return object{
		"id": id, "name": id, "type": "FILESYSTEM", "pool": name, "encrypted": false, "encryption_root": nil, "key_loaded": false, "locked": false, "children": []any{}, "user_properties": object{}, "mountpoint": "/mnt/" + id,
		"used": property(used), "available": property(available), "quota": property(nil), "refquota": property(nil), "compression": property("lz4"), "compressratio": property("1.12"), "readonly": property(false), "recordsize": property(131072),
		"deduplication": property("off"), "sync": property("standard"), "atime": property(false), "comments": property(""), "creation": property(1_690_000_000), "usedbysnapshots": property(used / 20), "usedbydataset": property(used * 19 / 20),
	}
}

func snapshot(set, name string, at time.Time, used int64) object {
	pool, _, _ := strings.Cut(set, "/")
	id := set + "@" + name
	return object{
		"id": id, "name": id, "pool": pool, "type": "SNAPSHOT", "snapshot_name": name, "dataset": set, "createtxg": strconv.FormatInt(at.Unix()/5, 10), "holds": object{},
		"properties": object{"creation": object{"parsed": date(at), "rawvalue": strconv.FormatInt(at.Unix(), 10), "value": at.Format(time.ANSIC), "source": "NONE"}, "used": property(used), "referenced": property(used * 40)},
	}
}

func snapshots(more int, now time.Time) []object {
	var list []object
	for day := range 7 {
		at := now.Add(-time.Duration(day*24+6) * time.Hour)
		for i, set := range []string{"tank/media", "tank/home", "tank/home/alice", "tank/home/bob", "fast/apps"} {
			list = append(list, snapshot(set, "auto-"+at.Format("2006-01-02_15-04"), at, int64(1_200_000*(day+1)*(i+1))))
		}
	}
	list[0]["holds"] = object{"truenas": 1}
	for i := range more {
		at := now.Add(-time.Duration(i+200) * time.Hour)
		list = append(list, snapshot("tank/backup", fmt.Sprintf("generated-%05d", i), at, int64(i)))
	}
	return list
}

func vdev(kind string, disks ...string) object {
	children := make([]any, len(disks))
	for i, d := range disks {
		children[i] = leaf(d, "ONLINE", 0)
	}
	return object{"type": kind, "name": strings.ToLower(kind) + "-0", "status": "ONLINE", "stats": stats(0), "children": children}
}

func leaf(disk, status string, errors int) object {
	return object{"type": "DISK", "name": disk + "1", "disk": disk, "device": disk + "1", "path": "/dev/disk/by-partuuid/" + disk, "status": status, "stats": stats(errors), "children": []any{}}
}

func stats(errors int) object {
	return object{"read_errors": errors, "write_errors": 0, "checksum_errors": errors * 2, "size": 0, "allocated": 0}
}

func degraded(kind string, disks ...string) object {
	v := vdev(kind, disks...)
	v["status"] = "DEGRADED"
	v["children"].([]any)[1] = leaf(disks[1], "REMOVED", 3)
	return v
}

func pool(id int, name string, size, allocated int64, now time.Time, status string, data []any) object {
	return object{
		"id": id, "name": name, "guid": strconv.Itoa(7_000_000 + id), "path": "/mnt/" + name, "status": status, "healthy": status == "ONLINE", "warning": status != "ONLINE", "status_code": "OK", "status_detail": nil,
		"size": size, "allocated": allocated, "free": size - allocated, "fragmentation": "11", "autotrim": property("off"),
		"scan":     object{"function": "SCRUB", "state": "FINISHED", "percentage": 100.0, "errors": 0, "start_time": date(now.Add(-200 * time.Hour)), "end_time": date(now.Add(-191 * time.Hour)), "total_secs_left": nil},
		"topology": object{"data": data, "log": []any{}, "cache": []any{}, "spare": []any{}, "special": []any{}, "dedup": []any{}},
	}
}

func app(name, state, version, latest string, port int) object {
	portals := object{}
	if port > 0 {
		portals["Web UI"] = fmt.Sprintf("http://0.0.0.0:%d/", port)
	}
	return object{
		"id": name, "name": name, "state": state, "version": version, "human_version": version, "latest_version": latest, "upgrade_available": version != latest, "image_updates_available": false, "custom_app": false, "notes": nil, "portals": portals,
		"metadata": object{"description": name, "train": "community"}, "config": object{"db_password": Secrets[0]}, "active_workloads": object{"containers": 2, "container_details": []any{object{"service_name": name, "state": strings.ToLower(state), "image": name + ":latest"}}},
	}
}

func service(id int, name string, enable bool, state string) object {
	return object{"id": id, "service": name, "enable": enable, "state": state, "pids": []int{}}
}

func alert(id, level, class, text string, at time.Time) object {
	return object{
		"id": id, "uuid": "00000000-0000-4000-8000-00000000" + id, "source": class, "klass": class, "args": nil, "node": "nas", "key": "{}", "datetime": date(at), "last_occurrence": date(at), "dismissed": false, "mail": nil,
		"text": text, "level": level, "formatted": text, "one_shot": false,
	}
}
