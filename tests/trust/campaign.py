"""Run the tries of one family: campaign.py FAMILY SEED TRIES FOLDER prints its counts as JSON."""

import faults
import files
import hostile
import kills
import tries

FAMILIES = {
    "sweep killed": kills.sweeps,
    "training killed": kills.trainings,
    "search killed": kills.searches,
    "append killed": kills.appends,
    "save killed": kills.saves,
    "merge killed": kills.merges,
    "page killed": kills.pages,
    "record cut": faults.truncations,
    "disk full": faults.full_disks,
    "read-only": faults.read_only,
    "no home": faults.without_home,
    "processes": faults.processes,
    "records": hostile.hostile_records,
    "parameters": hostile.wrong_parameters,
    "commands": hostile.wrong_commands,
    "plans": hostile.wrong_plans,
    "data": files.wrong_data,
    "images": files.wrong_images,
    "pickles": files.hostile_pickles,
}

if __name__ == "__main__":
    tries.main(FAMILIES)
