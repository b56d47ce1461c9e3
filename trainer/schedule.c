/*
 * schedule.c
 *		Learning rates; see schedule.h.
 */
#include "schedule.h"

#include <math.h>

double
fa_schedule_rate(const fa_schedule *schedule, double position)
{
	double rate = schedule->rate, warm_up = schedule->warm_up;

	if (position < warm_up)
		return rate * (0.1 + 0.9 * position / warm_up);
	switch (schedule->kind)
	{
		case FA_SCHEDULE_COSINE:
			return warm_up < 1 ? rate * 0.5 * (1 + cos(M_PI * (position - warm_up) / (1 - warm_up)))
							   : rate;
		case FA_SCHEDULE_STEP:
			for (int i = 0; i < schedule->milestone_count; i++)
				if (position >= schedule->milestones[i])
					rate *= schedule->factor;
			return rate;
		case FA_SCHEDULE_CONSTANT:
			break;
	}
	return rate;
}
