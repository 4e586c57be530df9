package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// hertz is the unit of CPU times in /proc, on every system that Go runs on.
const hertz = 100

// used is what the server used in a phase.
type used struct {
	User       float64 `json:"user_s"`
	System     float64 `json:"system_s"`
	CPU        float64 `json:"cpu_s"`
	PerMillion float64 `json:"cpu_s_per_million"`
}

// meter counts what is used from when it was started.
type meter struct {
	pid                  int
	server, own, machine cpu
}

// cpu is seconds so far.
type cpu struct{ user, system float64 }

func (c cpu) minus(earlier cpu) cpu { return cpu{c.user - earlier.user, c.system - earlier.system} }

func (c cpu) total() float64 { return c.user + c.system }

func startMeter(pid int) (*meter, error) {
	m := &meter{pid: pid}
	var err error
	m.server, m.own, m.machine, err = m.now()
	return m, err
}

// stop writes what was used since into the phase, whose operations are known.
func (m *meter) stop(p *phase) error {
	server, own, machine, err := m.now()
	if err != nil {
		return err
	}
	server, own, machine = server.minus(m.server), own.minus(m.own), machine.minus(m.machine)
	p.OtherCPU = max(machine.total()-server.total()-own.total(), 0)
	if m.pid != 0 {
		perMillion := server.total() * 1e6 / float64(max(p.Operations, 1))
		p.Server = &used{server.user, server.system, server.total(), perMillion}
	}
	return nil
}

// now gives the CPU of the server, of this process and of the whole machine. Without a pid the server's is none.
func (m *meter) now() (server, own, machine cpu, err error) {
	if m.pid != 0 {
		if server, err = processCPU(strconv.Itoa(m.pid)); err != nil {
			return server, own, machine, fmt.Errorf("--pid: %w", err)
		}
	}
	if own, err = processCPU("self"); err != nil {
		return server, own, machine, err
	}
	machine, err = machineCPU()
	return server, own, machine, err
}

func processCPU(pid string) (cpu, error) {
	path := "/proc/" + pid + "/stat"
	stat, err := os.ReadFile(path)
	if err != nil {
		return cpu{}, err
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return times(path, fields, []int{11}, []int{12})
}

// machineCPU leaves out idling and waiting for disks.
func machineCPU() (cpu, error) {
	const path = "/proc/stat"
	stat, err := os.ReadFile(path)
	if err != nil {
		return cpu{}, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	// cpu, user, nice, system, idle, iowait, irq, softirq
	return times(path, strings.Fields(line), []int{1, 2}, []int{3, 6, 7})
}

func times(path string, fields []string, user, system []int) (cpu, error) {
	var err error
	sum := func(columns []int) (seconds float64) {
		for _, column := range columns {
			if column >= len(fields) {
				err = fmt.Errorf("%s: no CPU times in it", path)
				return 0
			}
			ticks, failed := strconv.ParseUint(fields[column], 10, 64)
			if failed != nil {
				err = fmt.Errorf("%s: %w", path, failed)
			}
			seconds += float64(ticks) / hertz
		}
		return seconds
	}
	return cpu{sum(user), sum(system)}, err
}
