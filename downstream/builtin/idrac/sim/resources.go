package sim

import (
	"fmt"
	"math"
	"path"
	"time"
)

func link(to string) object { return object{"@odata.id": to} }

func (c *controller) systemPath() string  { return "/redfish/v1/Systems/" + c.system }
func (c *controller) chassisPath() string { return "/redfish/v1/Chassis/" + c.system }
func (c *controller) managerPath() string { return "/redfish/v1/Managers/" + c.manager }

func status(health string) object { return object{"Health": health, "State": "Enabled"} }

func (c *controller) root() object {
	o := object{
		"@odata.id": "/redfish/v1", "@odata.type": "#ServiceRoot.v1_17_0.ServiceRoot", "Id": "RootService", "Name": "Root Service", "RedfishVersion": "1.20.1",
		"Vendor": "Dell", "Product": "Integrated Dell Remote Access Controller",
		"Systems": link("/redfish/v1/Systems"), "Chassis": link("/redfish/v1/Chassis"), "Managers": link("/redfish/v1/Managers"),
		"UpdateService": link("/redfish/v1/UpdateService"), "SessionService": link("/redfish/v1/SessionService"), "Tasks": link("/redfish/v1/TaskService"),
		"Links": object{"Sessions": link(sessionsPath)},
		"ProtocolFeaturesSupported": object{
			"ExpandQuery": object{"ExpandAll": true, "Levels": true, "Links": true, "MaxLevels": 1, "NoLinks": true}, "SelectQuery": true, "OnlyMemberQuery": true,
		},
	}
	if c.Vendor { // it announces what it cannot do
		o["Vendor"], o["Product"] = "Contoso", "Contoso BMC"
	}
	return o
}

// resource returns what there is at a path; nil for nothing.
func (c *controller) resource(at string) object {
	switch at {
	case c.systemPath():
		return c.systemResource()
	case c.chassisPath():
		return c.chassisResource()
	case c.managerPath():
		return object{
			"Id": c.manager, "Name": "Manager", "ManagerType": "BMC", "Model": "16G Monolithic", "FirmwareVersion": "7.20.30.50", "PowerState": "On",
			"DateTime": time.Now().UTC().Format(time.RFC3339), "UUID": "3247314f-c0c5-3580-4a10-00424c4c4544", "Status": status("OK"),
			"EthernetInterfaces": link(at + "/EthernetInterfaces"), "LogServices": link(at + "/LogServices"),
			"Actions": object{"#Manager.Reset": object{"target": at + "/Actions/Manager.Reset", "ResetType@Redfish.AllowableValues": []string{"GracefulRestart"}}},
		}
	case c.managerPath() + "/SerialInterfaces/1":
		return object{"Id": "1", "Name": "Serial", "SnmpCommunity": "public-but-secret", "Nested": []object{{"Password": "hunter2hunter2"}}}
	case "/redfish/v1/UpdateService":
		return object{"Id": "UpdateService", "Name": "Update Service", "ServiceEnabled": true, "FirmwareInventory": link(at + "/FirmwareInventory")}
	case "/redfish/v1/SessionService":
		return object{"Id": "SessionService", "Name": "Session Service", "SessionTimeout": 1800, "Sessions": link(sessionsPath)}
	case "/redfish/v1/TaskService":
		return object{"Id": "TaskService", "Name": "Task Service", "Tasks": link(at + "/Tasks")}
	case c.systemPath() + "/ResetActionInfo":
		return object{"Id": "ResetActionInfo", "Name": "Reset Action Info", "Parameters": []object{{"Name": "ResetType", "Required": true, "AllowableValues": resetTypes}}}
	case c.chassisPath() + "/Power":
		return c.power()
	case c.chassisPath() + "/Thermal":
		return c.thermal()
	case c.chassisPath() + "/PowerSubsystem":
		return object{"Id": "PowerSubsystem", "Name": "Power", "PowerSupplies": link(at + "/PowerSupplies")}
	case c.chassisPath() + "/EnvironmentMetrics":
		return object{"Id": "EnvironmentMetrics", "Name": "Environment", "PowerWatts": object{"Reading": c.watts()}}
	case c.chassisPath() + "/ThermalSubsystem":
		return object{"Id": "ThermalSubsystem", "Name": "Thermal", "Fans": link(at + "/Fans"), "ThermalMetrics": link(at + "/ThermalMetrics")}
	case c.chassisPath() + "/ThermalSubsystem/ThermalMetrics":
		return object{
			"Id": "ThermalMetrics", "Name": "Metrics", "TemperatureReadingsCelsius": []object{{"DeviceName": "CPU1", "Reading": c.celsius(1)}},
			"TemperatureSummaryCelsius": object{"Intake": object{"Reading": 21}, "Exhaust": object{"Reading": 33}},
		}
	}
	// A member of a collection.
	if list, ok := c.collection(path.Dir(at)); ok {
		for _, o := range list {
			if fmt.Sprint(o["Id"]) == path.Base(at) || o["@odata.id"] == at {
				return o
			}
		}
	}
	return nil
}

var resetTypes = []string{"On", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PushPowerButton", "Nmi", "PowerCycle"}

func (c *controller) systemResource() object {
	at := c.systemPath()
	reset := object{"target": at + "/Actions/ComputerSystem.Reset"}
	if c.Vendor {
		reset["@Redfish.ActionInfo"] = at + "/ResetActionInfo"
	} else {
		reset["ResetType@Redfish.AllowableValues"] = resetTypes
	}
	o := object{
		"@odata.id": at, "@odata.etag": fmt.Sprintf(`W/"gen-%d"`, c.version), "@odata.type": "#ComputerSystem.v1_22_0.ComputerSystem",
		"Id": c.system, "Name": "System", "HostName": "rack1.example.net", "Manufacturer": "Dell Inc.", "Model": "PowerEdge R660", "SKU": "7X2LAB3",
		"SerialNumber": "CNIVC0042X00LAB", "AssetTag": "rack 1, 14", "UUID": "4c4c4544-0042-3510-804a-c0c04f314732", "PowerState": c.powerState(),
		"BiosVersion": "2.5.4", "LocationIndicatorActive": c.indicator, "Status": object{"Health": "OK", "HealthRollup": "Warning", "State": "Enabled"},
		"LastResetTime":    c.born.Add(-300 * time.Hour).UTC().Format(time.RFC3339),
		"ProcessorSummary": object{"Count": 2, "Model": "Intel(R) Xeon(R) Gold 6430", "LogicalProcessorCount": 128, "Status": status("OK")},
		"MemorySummary":    object{"TotalSystemMemoryGiB": 256, "Status": status("OK")},
		"BootProgress":     object{"LastState": map[bool]string{true: "None", false: "OSRunning"}[c.off]},
		"Boot": object{
			"BootSourceOverrideEnabled": map[bool]string{true: "Disabled", false: "Once"}[c.boot == ""], "BootSourceOverrideTarget": map[bool]string{true: "None", false: c.boot}[c.boot == ""],
			"BootSourceOverrideTarget@Redfish.AllowableValues": []string{"None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup", "Utilities", "UefiTarget", "SDCard", "UefiHttp"},
		},
		"Processors": link(at + "/Processors"), "Memory": link(at + "/Memory"), "Storage": link(at + "/Storage"), "EthernetInterfaces": link(at + "/EthernetInterfaces"),
		"Links":   object{"Chassis": []object{link(c.chassisPath())}, "ManagedBy": []object{link(c.managerPath())}},
		"Actions": object{"#ComputerSystem.Reset": reset},
	}
	if c.Vendor {
		delete(o, "LocationIndicatorActive")
		o["IndicatorLED"], o["Manufacturer"], o["Model"] = map[bool]string{true: "Blinking", false: "Off"}[c.indicator], "Contoso", "3500"
	}
	return o
}

func (c *controller) powerState() string { return map[bool]string{true: "Off", false: "On"}[c.off] }

func (c *controller) chassisResource() object {
	at := c.chassisPath()
	o := object{
		"Id": c.system, "Name": "Computer System Chassis", "ChassisType": "RackMount", "Model": "PowerEdge R660", "PowerState": c.powerState(), "Status": status("Warning"),
		"Sensors": link(at + "/Sensors"),
	}
	if c.Newer {
		o["PowerSubsystem"], o["ThermalSubsystem"], o["EnvironmentMetrics"] = link(at+"/PowerSubsystem"), link(at+"/ThermalSubsystem"), link(at+"/EnvironmentMetrics")
	} else {
		o["Power"], o["Thermal"] = link(at+"/Power"), link(at+"/Thermal")
	}
	return o
}

// swing moves slowly between -1 and 1, differently for each seed.
func swing(seed int) float64 { return math.Sin(float64(time.Now().Unix())/300 + float64(seed)) }

func (c *controller) watts() int {
	if c.off {
		return 14
	}
	return int(232 + 30*swing(0))
}

func (c *controller) celsius(seed int) int {
	if c.off {
		return 22
	}
	return int(48 + 6*swing(seed))
}

func (c *controller) supplies() []object {
	list := []object{}
	for i := 1; i <= 2; i++ {
		list = append(list, object{
			"Id": fmt.Sprintf("PSU.Slot.%d", i), "MemberId": fmt.Sprintf("PSU.Slot.%d", i), "Name": fmt.Sprintf("PS%d Status", i), "Model": "PWR SPLY,1100W,RDNT",
			"PowerCapacityWatts": 1100, "PowerOutputWatts": c.watts() / 2, "LineInputVoltage": 231, "Status": status("OK"),
		})
	}
	return list
}

func (c *controller) power() object {
	return object{
		"Id": "Power", "Name": "Power", "PowerSupplies": c.supplies(),
		"PowerControl": []object{{
			"MemberId": "PowerControl", "Name": "System Power Control", "PowerConsumedWatts": c.watts(), "PowerCapacityWatts": 1100,
			"PowerLimit": object{"LimitInWatts": nil}, "PowerMetrics": object{"AverageConsumedWatts": 228, "MaxConsumedWatts": 341, "IntervalInMin": 60},
		}},
	}
}

func (c *controller) thermal() object {
	fans, temperatures := []object{}, []object{}
	for i := 1; i <= 6; i++ {
		health, rpm := "OK", 7200+i*120
		if i == 4 {
			health, rpm = "Warning", 4100
		}
		if c.off {
			rpm = 0
		}
		fans = append(fans, object{
			"MemberId": fmt.Sprintf("Fan.Embedded.%dA", i), "FanName": fmt.Sprintf("System Board Fan%dA", i), "Reading": rpm, "ReadingUnits": "RPM",
			"LowerThresholdCritical": 3000, "Status": status(health),
		})
	}
	for i, name := range []string{"CPU1 Temp", "CPU2 Temp", "System Board Inlet Temp", "System Board Exhaust Temp"} {
		v := c.celsius(i)
		if i >= 2 {
			v = 20 + 12*(i-2)
		}
		temperatures = append(temperatures, object{
			"MemberId": fmt.Sprintf("iDRAC.Embedded.1#Temp%d", i), "Name": name, "ReadingCelsius": v, "UpperThresholdNonCritical": 80, "UpperThresholdCritical": 95, "Status": status("OK"),
		})
	}
	return object{"Id": "Thermal", "Name": "Thermal", "Fans": fans, "Temperatures": temperatures}
}
