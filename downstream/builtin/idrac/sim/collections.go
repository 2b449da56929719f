package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// entry of a log.
type entry struct {
	at                     time.Time
	severity, message, tag string
}

// furnish writes what has happened before.
func (c *controller) furnish() {
	ago := func(h int) time.Time { return c.born.Add(-time.Duration(h) * time.Hour) }
	c.sel = []entry{
		{ago(8000), "OK", "Log cleared.", "LOG"},
		{ago(900), "Critical", "The power input for power supply 2 is lost.", "PSU"},
		{ago(899), "OK", "The input power for power supply 2 has been restored.", "PSU"},
		{ago(26), "Warning", "Fan 4A RPM is less than the lower warning threshold.", "FAN"},
	}
	for i := range c.Entries + 30 {
		e := entry{ago(c.Entries + 31 - i), "OK", fmt.Sprintf("Successfully logged in using lab, from 192.0.2.%d and REDFISH.", i%200+1), "USR"}
		if i%10 == 3 {
			e = entry{e.at, "Warning", fmt.Sprintf("The drive %d reports a corrected medium error.", i%8), "PDR"}
		}
		c.lc = append(c.lc, e)
	}
}

func (c *controller) note(severity, message, tag string) {
	e := entry{time.Now(), severity, message, tag}
	c.lc = append(c.lc, e)
	if severity != "OK" || tag == "SYS" {
		c.sel = append(c.sel, e)
	}
}

// collection returns the members of the collection at a path.
func (c *controller) collection(at string) ([]object, bool) {
	system, chassis, manager := c.systemPath(), c.chassisPath(), c.managerPath()
	switch at {
	case "/redfish/v1/Systems":
		return []object{c.systemResource()}, true
	case "/redfish/v1/Chassis":
		return []object{c.chassisResource()}, true
	case "/redfish/v1/Managers":
		return []object{c.resource(manager)}, true
	case sessionsPath:
		list := []object{}
		for _, s := range c.sessions {
			list = append(list, describe(s))
		}
		slices.SortFunc(list, func(a, b object) int { return strings.Compare(a["Id"].(string), b["Id"].(string)) })
		return list, true
	case "/redfish/v1/TaskService/Tasks":
		list := []object{}
		for _, id := range slices.Sorted(maps.Keys(c.tasks)) {
			list = append(list, c.task(id))
		}
		return list, true
	case "/redfish/v1/UpdateService/FirmwareInventory":
		return c.firmware(), true
	case system + "/Processors":
		return many(2, func(i int) object {
			return object{
				"Id": fmt.Sprintf("CPU.Socket.%d", i), "Name": fmt.Sprintf("CPU %d", i), "Model": "Intel(R) Xeon(R) Gold 6430", "Manufacturer": "Intel", "TotalCores": 32,
				"TotalThreads": 64, "MaxSpeedMHz": 4000, "Socket": fmt.Sprintf("CPU.Socket.%d", i), "Status": status("OK"),
			}
		}), true
	case system + "/Memory":
		return many(8+c.Parts, func(i int) object {
			return object{
				"Id": fmt.Sprintf("DIMM.Socket.A%d", i), "Name": fmt.Sprintf("DIMM A%d", i), "CapacityMiB": 32768, "OperatingSpeedMhz": 4400, "MemoryDeviceType": "DDR5",
				"Manufacturer": "Hynix", "PartNumber": "HMCG88AEBRA174N", "SerialNumber": fmt.Sprintf("80AD%04d", i), "DeviceLocator": fmt.Sprintf("A%d", i), "Status": status("OK"),
			}
		}), true
	case system + "/EthernetInterfaces":
		return many(2, func(i int) object {
			return object{
				"Id": fmt.Sprintf("NIC.Embedded.%d-1-1", i), "Name": "System Ethernet Interface", "MACAddress": fmt.Sprintf("D0:8E:79:00:00:%02X", i), "SpeedMbps": 25000,
				"LinkStatus": map[bool]string{true: "LinkDown", false: "LinkUp"}[c.off], "Status": status("OK"),
			}
		}), true
	case system + "/Storage":
		return []object{c.raid()}, true
	case system + "/Storage/RAID.SL.1-1/Drives":
		return c.drives(), true
	case system + "/Storage/RAID.SL.1-1/Volumes":
		return []object{
			{"Id": "Disk.Virtual.0", "Name": "os", "RAIDType": "RAID1", "CapacityBytes": int64(960) << 30, "Status": status("OK")},
			{"Id": "Disk.Virtual.1", "Name": "data", "RAIDType": "RAID6", "CapacityBytes": int64(15) << 40, "Status": status("Warning")},
		}, true
	case manager + "/EthernetInterfaces":
		return []object{{
			"Id": "NIC.1", "Name": "Manager Ethernet Interface", "MACAddress": "D0:8E:79:00:00:AA", "HostName": "idrac-7X2LAB3",
			"IPv4Addresses": []object{{"Address": "192.0.2.20", "SubnetMask": "255.255.255.0"}}, "IPv6Addresses": []object{{"Address": "::"}}, "Status": status("OK"),
		}}, true
	case manager + "/LogServices":
		return []object{c.log("Sel", "SEL", c.sel), c.log("Lclog", "Event", c.lc)}, true
	case manager + "/LogServices/Sel/Entries":
		return entries("SEL", c.sel), true
	case manager + "/LogServices/Lclog/Entries":
		return entries("Event", c.lc), true
	case chassis + "/Sensors":
		return many(10+c.Parts, func(i int) object {
			return object{
				"Id": fmt.Sprintf("Sensor%d", i), "Name": fmt.Sprintf("Sensor %d of the system board", i), "Reading": c.celsius(i), "ReadingUnits": "Cel", "ReadingType": "Temperature", "Status": status("OK"),
			}
		}), true
	case chassis + "/PowerSubsystem/PowerSupplies":
		return c.supplies(), true
	case chassis + "/ThermalSubsystem/Fans":
		return many(4, func(i int) object {
			return object{"Id": fmt.Sprintf("Fan%d", i), "Name": fmt.Sprintf("Fan %d", i), "SpeedPercent": object{"Reading": 40, "SpeedRPM": 7000 + i}, "Status": status("OK")}
		}), true
	}
	return nil, false
}

func many(n int, of func(i int) object) []object {
	list := make([]object, n)
	for i := range list {
		list[i] = of(i + 1)
	}
	return list
}

func (c *controller) firmware() []object {
	list := []object{}
	for _, f := range [][3]string{
		{"Installed-159-2.5.4", "BIOS", "2.5.4"},
		{"Previous-159-2.4.4", "BIOS", "2.4.4"},
		{"Installed-25227-7.20.30.50", "Integrated Dell Remote Access Controller", "7.20.30.50"},
		{"Installed-110213-52.30.0", "PERC H755 Front", "52.30.0-6115"},
		{"Installed-107649-23.1", "Broadcom Adv. Dual 25Gb Ethernet", "23.11.1.4"},
	} {
		list = append(list, object{"Id": f[0], "Name": f[1], "Version": f[2], "Updateable": f[1] != "PERC H755 Front", "ReleaseDate": "2026-05-12T00:00:00Z", "Status": status("OK")})
	}
	return append(list, many(c.Parts, func(i int) object {
		return object{"Id": fmt.Sprintf("Installed-%d", i), "Name": fmt.Sprintf("Component %d of a large machine", i), "Version": fmt.Sprintf("1.%d", i), "Updateable": true, "Status": status("OK")}
	})...)
}

func (c *controller) drives() []object {
	return many(8+c.Parts, func(i int) object {
		o := object{
			"Id": fmt.Sprintf("Disk.Bay.%d", i-1), "Name": fmt.Sprintf("Solid State Disk 0:1:%d", i-1), "Model": "Dell NVMe PE8010 RI U.2 3.84TB", "SerialNumber": fmt.Sprintf("SJA1N00%04d", i),
			"MediaType": "SSD", "Protocol": "NVMe", "CapacityBytes": int64(3840755982336), "FailurePredicted": false, "PredictedMediaLifeLeftPercent": 97 - i, "Status": status("OK"),
			"@odata.id": fmt.Sprintf("%s/Storage/RAID.SL.1-1/Drives/Disk.Bay.%d", c.systemPath(), i-1),
		}
		if i == 6 {
			o["FailurePredicted"], o["PredictedMediaLifeLeftPercent"], o["Status"] = true, 3, status("Warning")
		}
		return o
	})
}

func (c *controller) raid() object {
	at, links := c.systemPath()+"/Storage/RAID.SL.1-1", []object{}
	for _, d := range c.drives() {
		links = append(links, link(d["@odata.id"].(string)))
	}
	return object{
		"@odata.id": at, "Id": "RAID.SL.1-1", "Name": "PERC H755 Front", "Drives": links, "Volumes": link(at + "/Volumes"), "Status": status("Warning"),
		"StorageControllers": []object{{"MemberId": "0", "Name": "PERC H755 Front", "Model": "PERC H755 Front", "FirmwareVersion": "52.30.0-6115", "Status": status("OK")}},
	}
}

func (c *controller) log(id, kind string, list []entry) object {
	at := c.managerPath() + "/LogServices/" + id
	o := object{
		"@odata.id": at, "Id": id, "Name": map[string]string{"Sel": "SEL Log Service", "Lclog": "Lifecycle Controller Log Service"}[id], "LogEntryType": kind,
		"MaxNumberOfRecords": 1024, "Entries": link(at + "/Entries"), "Status": status("OK"), "ServiceEnabled": true, "Overview": len(list),
	}
	if id == "Sel" {
		o["Actions"] = object{"#LogService.ClearLog": object{"target": at + "/Actions/LogService.ClearLog"}}
	}
	return o
}

// entries of a log, newest first as an iDRAC has them.
func entries(kind string, list []entry) []object {
	out := make([]object, 0, len(list))
	for i, e := range slices.Backward(list) {
		out = append(out, object{
			"Id": strconv.Itoa(i + 1), "Name": "Log Entry " + strconv.Itoa(i+1), "Created": e.at.UTC().Format(time.RFC3339), "Severity": e.severity, "Message": e.message,
			"MessageId": fmt.Sprintf("%s%04d", e.tag, len(e.message)), "EntryType": kind,
		})
	}
	return out
}
