package gateway

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mcpgw/mcpgw/downstream"
)

// LabOrder is the body of POST /-/lab: the simulator of the downstream gets the fault. No fault mends it.
type LabOrder struct {
	Name    string `json:"name"`
	Fault   string `json:"fault,omitempty"`
	DelayMS int64  `json:"delay_ms,omitempty"` // of slow and flap; 0 is the usual
}

// LabReport is the answer of /-/lab.
type LabReport struct {
	Systems []downstream.LabStatus `json:"systems"`
}

// LabFaults returns the names of all faults that a simulator can have; some belong to one kind of system.
func LabFaults() []string { return downstream.LabFaults() }

// serveLab shows the simulators (GET), and breaks or mends one (POST): {"name": "...", "fault": "...", "delay_ms": 0}. No fault mends. It
// answers with how the simulators are. Nothing real can be harmed by it, so that it needs no admin_tools.
func (g *Gateway) serveLab(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodGet:
	case http.MethodPost:
		const most = 4 << 10
		var order LabOrder
		dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, most))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&order); err != nil {
			http.Error(w, `expected {"name": "...", "fault": "...", "delay_ms": 0}: `+err.Error(), http.StatusBadRequest)
			return
		}
		system, err := g.lab.System(order.Name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		if order.Fault == "" {
			err = system.Mend()
		} else {
			var f downstream.LabFault
			if f, err = downstream.ParseLabFault(order.Fault, time.Duration(order.DelayMS)*time.Millisecond); err == nil {
				err = system.Break(f)
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.log.InfoContext(req.Context(), "lab changed", "downstream", system.Name, "fault", order.Fault)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "use GET or POST", http.StatusMethodNotAllowed)
		return
	}
	answer := LabReport{Systems: []downstream.LabStatus{}}
	for _, s := range g.lab.Systems() {
		answer.Systems = append(answer.Systems, s.Status())
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(&answer) // a client that is gone needs no answer
}
