package gonsq

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"testing"
)

func TestLoadTellsWhatItDidAndWhatItCost(t *testing.T) {
	b := startBrokerWith(t)
	load := func(args ...string) *exec.Cmd {
		return exec.Command("go", append([]string{"run", "./load", "--address", b.address, "--rate", "500"}, args...)...)
	}
	told, err := load("--seconds", "1", "--pid", strconv.Itoa(b.process.Process.Pid)).Output()
	must(t, err)
	var report struct {
		Phases []struct {
			Seconds    float64
			Published  int
			Operations int
			Server     *struct {
				PerMillion float64 `json:"cpu_s_per_million"`
			}
		}
		Check map[string]int
	}
	must(t, json.Unmarshal(told, &report))
	phase := report.Phases[0]
	if phase.Published != 500 || phase.Operations != 500 || phase.Seconds < 0.9 {
		t.Errorf("it publishes at its rate and all of it comes: %s", told)
	}
	if phase.Server == nil || phase.Server.PerMillion < 0 || report.Check["lost"] != 0 || report.Check["duplicates"] != 0 {
		t.Errorf("it tells the server's CPU, and nothing is missing: %s", told)
	}
	if err := load("--pid", "4294967295").Run(); err == nil {
		t.Error("a process that is none is an error")
	}
}
